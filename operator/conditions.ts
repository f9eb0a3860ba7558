/** Conditions (metav1.Condition): what is said of an object, and since when. Pure. */
import type { Condition } from '../resources/kinds.ts'
import { timestamp } from '../runtime/clock.ts'

/** What a controller found out; `observedGeneration` and the time of the last change are added. */
export interface Finding {
  type: string
  status: 'True' | 'False' | 'Unknown'
  reason: string
  message: string
}

/**
 * The conditions after these findings, in the order of the findings; those of other types stay, behind. The time of a condition is that of the last
 * change of its status, so findings that say nothing new make an equal list.
 */
export function withFindings(
  before: readonly Condition[] | undefined,
  findings: readonly Finding[],
  at: { generation: number; now: number },
): Condition[] {
  const old = new Map((before ?? []).map(condition => [condition.type, condition]))
  const found = findings.map(finding => {
    const last = old.get(finding.type)
    old.delete(finding.type)
    return {
      ...finding,
      lastTransitionTime: last?.status === finding.status ? last.lastTransitionTime : timestamp(at.now),
      observedGeneration: at.generation,
    }
  })
  return [...found, ...old.values()]
}

/** `Ready` of the others: true when all are, else the first that is not, with its reason and words. */
export function summary(findings: readonly Finding[]): Finding {
  const broken = findings.find(f => f.status === 'False') ?? findings.find(f => f.status === 'Unknown')
  if (!broken) return { type: 'Ready', status: 'True', reason: 'Ready', message: '' }
  return { type: 'Ready', status: broken.status, reason: broken.reason, message: broken.message }
}
