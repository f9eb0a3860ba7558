/**
 * Steps (runtime/steps.ts) for people: a line each, and the exit code. Pure.
 *
 *   ok    ping   1.2ms  198.51.100.2 + 22 (10.241.9.67) answers 3 of 3
 *   warn  port          198.51.100.2 sends from UDP port 5001, not 1045: a NAT there changes it
 *   FAIL  TCP 81        10.241.9.67: refused: nothing listens at that port
 */
import type { Step } from '../runtime/steps.ts'

export function stepLines(steps: readonly Step[]): string[] {
  const whatWidth = Math.max(0, ...steps.map(step => step.what.length))
  const timeWidth = Math.max(0, ...steps.map(step => timeOf(step).length))
  return steps.map(step => {
    const time = timeWidth > 0 ? `${timeOf(step).padStart(timeWidth)}  ` : ''
    return `${outcomeOf(step).padEnd(4)}  ${step.what.padEnd(whatWidth)}  ${time}${step.detail}`
  })
}

function outcomeOf({ ok, warns }: Step): 'ok' | 'warn' | 'FAIL' {
  return ok ? (warns ? 'warn' : 'ok') : 'FAIL'
}

function timeOf({ ms }: Step): string {
  return ms === undefined ? '' : `${ms.toFixed(1)}ms`
}

/** 1: something is wrong, or nothing was looked at. Warnings are not wrong. */
export function exitCodeOfSteps(steps: readonly Step[]): 0 | 1 {
  return steps.length > 0 && steps.every(step => step.ok) ? 0 : 1
}
