import { describe, expect, it } from 'vitest'
import { type Observation, type ReportInput, reportOf } from '../../../../gateway/kube/report.ts'
import { API_VERSION, type IprefGateway } from '../../../../resources/kinds.ts'
import { quietObservation } from '../../../support/quietSource.ts'

const MINUTE = 60_000
const peer = { address: '203.0.113.2', verified: true, rttMilliseconds: 20, pathMtu: 1500, lastSeenTime: 'a' }
const observation: Observation = { ...quietObservation, version: '1', tunMtu: 1400, peers: [peer] }
const gateway: IprefGateway = {
  apiVersion: API_VERSION,
  kind: 'IprefGateway',
  metadata: { name: 'a', generation: 3 },
  spec: {},
}
const input = (more: Partial<ReportInput> = {}): ReportInput => ({
  object: gateway,
  observation,
  refused: [],
  inForce: '100',
  awaited: '90',
  now: 0,
  reportedAt: 0,
  ...more,
})
const reported = { ...gateway, status: reportOf(input())! }
const isWorth = (more: Partial<ReportInput>) => reportOf(input({ object: reported, ...more })) !== undefined
const peers = (more: Partial<typeof peer>) => ({ observation: { ...observation, peers: [{ ...peer, ...more }] } })

describe('reports', () => {
  it('the first is always worth it', () => expect(reported.status).toMatchObject({ observedResourceVersion: '100' }))

  it.each<[string, Partial<ReportInput>, boolean]>([
    ['nothing new', {}, false],
    ['more is in force, and nobody waits for it', { inForce: '500' }, false],
    ['more is in force, and the operator waits for it', { inForce: '500', awaited: '400' }, true],
    ['the operator waits for what is not in force yet', { awaited: '400' }, false],
    ['a version with more digits is later', { inForce: '1000', awaited: '999' }, true],
    ['a mapping was refused', { refused: [{ namespace: 'n', name: 'm', reason: 'R', message: '' }] }, true],
    ['not ready any more', { observation: { ...observation, unready: ['the store cannot be written'] } }, true],
    ['another MTU', { observation: { ...observation, tunMtu: 1300 } }, true],
    ['a peer is there no more', { observation: { ...observation, peers: [] } }, true],
    ['a peer does not answer any more', peers({ verified: false }), true],
    ['another path MTU', peers({ pathMtu: 1400 }), true],
    ['a slower peer, at once', { ...peers({ rttMilliseconds: 40 }), now: MINUTE - 1 }, false],
    ['a slower peer, after a minute', { ...peers({ rttMilliseconds: 40 }), now: MINUTE }, true],
    ['a slightly slower peer', { ...peers({ rttMilliseconds: 23 }), now: MINUTE }, false],
    ['heard from lately', { ...peers({ lastSeenTime: 'b' }), now: 4 * MINUTE }, false],
    ['heard from, and five minutes have passed', { ...peers({ lastSeenTime: 'b' }), now: 5 * MINUTE }, true],
  ])('%s', (_name, more, expected) => expect(isWorth(more)).toBe(expected))

  it('conditions keep the time of their last change', () => {
    const later = reportOf(
      input({ object: reported, now: 9 * MINUTE, refused: [{ namespace: 'n', name: 'm', reason: 'R', message: '' }] }),
    )
    expect(later?.conditions).toEqual(reported.status.conditions)
  })

  it('a refusal is said in Accepted and Ready', () => {
    const refusal = { reason: 'EncodingNetworkOverlap', message: 'it meets 10.180.0.0/16' }
    expect(reportOf(input({ observation: { ...observation, refusal } }))?.conditions).toMatchObject([
      { type: 'Accepted', status: 'False', reason: 'EncodingNetworkOverlap' },
      { type: 'Ready', status: 'False', message: 'it meets 10.180.0.0/16' },
    ])
  })
})
