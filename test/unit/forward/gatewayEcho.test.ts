/** Echo replies to the gateway's own reference: those with our identifier are answers to probes, also when they come in fragments. */
import { describe, expect, it } from 'vitest'
import { Verdict } from '../../../gateway/forward/environment.ts'
import { Fault } from '../../../ipref/faults.ts'
import { ForwardBench, settingsFor } from '../../support/forwardBench.ts'

const OURS = 0x1234
const NONCE = Uint8Array.from({ length: 16 }, (_, i) => i + 1)

interface Reply {
  id?: number
  type?: number
  /** of the fragment, in bytes; absent: no fragment */
  offset?: number
  more?: boolean
}

/** From reference 1 of 198.51.100.2 to reference 1 of 198.51.100.1. */
function reply({ id = OURS, type = 0, offset, more = false }: Reply): Uint8Array {
  const isFragment = offset !== undefined
  const info = isFragment ? [0, 0, ((offset >> 8) & 0xff) as number, (offset & 0xff) | (more ? 1 : 0), 0, 0, 0, 7] : []
  const head = [
    0x10 | (isFragment ? 2 : 0),
    0x40,
    64,
    1,
    ...info,
    198,
    51,
    100,
    2,
    198,
    51,
    100,
    1,
    0,
    0,
    0,
    1,
    0,
    0,
    0,
    1,
  ]
  return Uint8Array.from([...head, type, 0, 0, 0, id >> 8, id & 0xff, 0, 1, ...NONCE, ...new Uint8Array(24)])
}

function decap(
  bytes: Uint8Array,
  { gatewayOpen } = { gatewayOpen: false },
): { verdict: number; fault: number; nonce: Uint8Array } {
  const change = { probeId: OURS, gatewayOpen }
  const bench = new ForwardBench(settingsFor({ encodeNets: ['10.240.0.0/12'], contexts: ['198.51.100.1'], change }))
  const verdict = bench.runDecap(bytes, { address: '198.51.100.2', port: 1045 })
  const { fault, probeAt } = bench.decap
  return { verdict, fault, nonce: bench.bytes.slice(probeAt, probeAt + NONCE.length) }
}

describe('echo replies to the gateway itself', () => {
  it.each([
    { name: 'whole', given: {} },
    { name: 'the first of several fragments', given: { offset: 0, more: true } },
  ])('with our identifier, $name: the answer to a probe', ({ given }) => {
    const { verdict, nonce } = decap(reply(given))
    expect(verdict).toBe(Verdict.probeAnswer)
    expect(nonce).toEqual(NONCE)
    expect(decap(reply(given), { gatewayOpen: true }).verdict).toBe(Verdict.probeAnswer)
  })

  it.each([
    { name: 'a later fragment', given: { offset: 40, more: false } },
    { name: 'a first fragment with the identifier of others', given: { id: 0x4321, offset: 0, more: true } },
    { name: 'a first fragment of a request', given: { type: 8, offset: 0, more: true } },
  ])('$name is dropped', ({ given }) => {
    expect(decap(reply(given))).toMatchObject({ verdict: Verdict.dropped, fault: Fault.gateway_closed })
    expect(decap(reply(given), { gatewayOpen: true }).verdict).toBe(Verdict.missRemote)
  })
})
