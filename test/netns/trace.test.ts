/** `ipref trace` between two real gateways: a peer that answers, with its time, and one that fell silent. */
import { join } from 'node:path'
import type { TraceReport } from '../../gateway/controlReports.ts'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { openTwoNetworks, ways } from './twoNetworks.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')

export async function run(checks: Checks): Promise<void> {
  const { lab, a, b } = await openTwoNetworks()
  try {
    const trace = async (address: string) => {
      const { code, stdout } = await a.gateway.run([
        IPREF,
        'trace',
        address,
        '-json',
        '-control-socket',
        a.controlSocket,
      ])
      const report = JSON.parse(stdout) as TraceReport
      return { code, report, answer: report.steps.find(step => step.what === 'answer') }
    }
    for (const { name, address } of ways) {
      await checks.check(`a peer that answers: ${name}`, async () => {
        const { code, answer, report } = await trace(address)
        expectSame('exit code', code, 0)
        expectThat((answer?.ms ?? 0) > 0, `no time in ${JSON.stringify(report.steps)}`)
        return `${answer?.ms} ms`
      })
    }
    await checks.check('a peer that fell silent', async () => {
      await b.stopGateway()
      const { code, answer, report } = await trace('10.240.4.4')
      expectSame('exit code', code, 1)
      expectThat(answer?.ok === false, `the answer step says ${JSON.stringify(answer)}`)
      expectThat(report.verdict.includes('198.51.100.2 is silent'), `the verdict is ${report.verdict}`)
      expectThat(report.verdict.includes('UDP port 1045'), `the verdict is ${report.verdict}`)
      return undefined
    })
    await checks.check('and back again', async () => {
      b.startGateway()
      await b.ready()
      expectSame('exit code', (await trace('10.240.4.4')).code, 0)
      return undefined
    })
  } finally {
    await lab.close()
  }
}
