/** What is said of an IprefService: the conditions beyond `Accepted` and `Resolved`, and the status as a whole. Pure. */
import { isDeepStrictEqual } from 'node:util'
import type { IprefGateway, IprefService, IprefServiceStatus, ServiceMapping } from '../../resources/kinds.ts'
import type { Names } from '../../resources/names.ts'
import { compareVersions, versionOfMappings } from '../../resources/view.ts'
import { type Finding, summary, withFindings } from '../conditions.ts'
import { formerNames } from './formerNames.ts'

/** Reasons that do not keep an object from being ready. */
const NO_FAULT = new Set(['NoPublicZone'])

export interface StatusInput {
  object: IprefService
  names: Names | undefined
  mappings: readonly ServiceMapping[]
  /** `Accepted` and `Resolved` */
  findings: readonly Finding[]
  /** gateways that are alive */
  gateways: readonly IprefGateway[]
  publishedInternal: Finding
  publishedPublic: Finding
  /** no record of ours is left under a name that it had */
  isGone(name: string): boolean
  now: number
}

export function statusOf(input: StatusInput): IprefServiceStatus {
  const { object, names, mappings, now } = input
  const { metadata, status } = object
  const isSame = isDeepStrictEqual(status?.mappings ?? [], mappings)
  // written without a version first, later with the version of that write: a crash in between claims nothing (decisions.md 19)
  const mappingsVersion = isSame && mappings.length > 0 ? versionOfMappings(object) : undefined
  const found = [...input.findings, mappedFinding(input, isSame ? mappingsVersion : undefined)]
  found.push(input.publishedInternal, input.publishedPublic)
  found.push(summary(found.filter(({ reason }) => !NO_FAULT.has(reason))))
  const generation = metadata.generation ?? 0
  const named = {
    ...(names ? { internalName: names.internal } : {}),
    ...(names?.public !== undefined ? { publicName: names.public } : {}),
    ...(mappings.length > 0 ? { mappings: [...mappings] } : {}),
  }
  const former = formerNames(status, named, input.isGone)
  return {
    observedGeneration: generation,
    conditions: withFindings(status?.conditions, found, { generation, now }),
    ...named,
    ...(former ? { formerNames: former } : {}),
    ...(mappingsVersion !== undefined ? { mappingsVersion } : {}),
  }
}

/**
 * Every gateway that is alive has seen the mappings and does not refuse them. One that has never reported is not in service yet and is not waited for, unless
 * there is no other: a node more is no reason to write the status of every object.
 */
function mappedFinding({ object, mappings, gateways: alive }: StatusInput, version: string | undefined): Finding {
  const say = (status: Finding['status'], reason: string, message = ''): Finding => ({
    type: 'Mapped',
    status,
    reason,
    message,
  })
  if (mappings.length === 0) return say('False', 'NothingToMap', 'there is no address to map')
  const { namespace, name } = object.metadata
  const inService = alive.filter(({ status }) => status?.observedResourceVersion !== undefined)
  const gateways = inService.length > 0 ? inService : alive
  for (const gateway of gateways) {
    const refused = gateway.status?.refused?.find(r => r.namespace === namespace && r.name === name)
    if (refused) return say('False', refused.reason, `gateway ${gateway.metadata.name}: ${refused.message}`)
  }
  if (gateways.length === 0) return say('False', 'NoGateway', 'no gateway is alive')
  const isLate = gateways.some(({ status }) => {
    const observed = status?.observedResourceVersion
    return version === undefined || observed === undefined || compareVersions(observed, version) < 0
  })
  // no names and counts here: each would be a write for every object while gateways catch up
  return isLate ? say('Unknown', 'WaitingForGateways', 'not every gateway reports it yet') : say('True', 'Mapped')
}
