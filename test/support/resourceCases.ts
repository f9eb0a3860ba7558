/**
 * Objects of our kinds that are accepted, and objects that are refused, by rule. The same rows are put to `validate` (test/unit/resources) and to a real API
 * server, so that the CEL text of a rule and its test say the same.
 *
 * `rule` names the place and the rule that a row is an example of (`spec.target exactly-one`); every rule has a row of either sort. Rows without one are
 * about what the schema itself says. A row with `old` is an update of that object, which is accepted.
 */
import { networkCases } from './networkCases.ts'
import type { ResourceCase } from './resourceBuilders.ts'
import { serviceCases } from './serviceCases.ts'

export const resourceCases: readonly ResourceCase[] = [...serviceCases, ...networkCases]
