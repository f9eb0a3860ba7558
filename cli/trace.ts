/** `ipref trace ADDRESS`: what becomes of a packet, step by step, and the first thing that is wrong. */
import type { TraceReport } from '../gateway/controlReports.ts'
import { askControl } from '../runtime/controlSocket.ts'
import { fail, parseCommand } from './arguments.ts'

/** Exit code 1: something on the way is wrong. */
export async function runTrace(argv: readonly string[]): Promise<number> {
  const args = parseCommand(argv)
  if (typeof args === 'string') return fail('trace', args, 2)
  const [address] = args.rest
  if (!address || args.rest.length !== 1)
    return fail('trace', 'usage: ipref trace ADDRESS   (an encoded address, or one of a host of ours)', 2)
  try {
    const report = (await askControl(args.controlSocket, { do: 'trace', address })) as TraceReport
    process.stdout.write(`${args.json ? JSON.stringify(report, null, 2) : renderTrace(report)}\n`)
    return report.steps.every(step => step.ok) && report.steps.length > 0 ? 0 : 1
  } catch (error) {
    return fail('trace', (error as Error).message)
  }
}

function renderTrace(report: TraceReport): string {
  const width = Math.max(0, ...report.steps.map(step => step.what.length))
  const lines = report.steps.map(step => `${step.ok ? 'ok  ' : 'FAIL'}  ${step.what.padEnd(width)}  ${step.detail}`)
  return [...lines, report.verdict].join('\n')
}
