/** What a Pod says of itself. Pure. */
import type { Pod } from './kinds.ts'

/** Its probes say so, and every readiness gate. */
export function isReadyPod({ status }: Pod): boolean {
  return status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true
}
