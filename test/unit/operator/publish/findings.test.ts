import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type FindingInput, publishFinding, publishReasons } from '../../../../operator/publish/findings.ts'

const base: FindingInput = {
  kind: 'public',
  zone: 'example.com',
  isAccepted: true,
  hasMappings: true,
  hasPublicGateway: true,
  sets: 1,
  takenBy: undefined,
  leftOut: 0,
  outputs: [{ name: 'zone server', problem: undefined, isApplied: true, conflict: undefined }],
  read: { isRight: true, hasServers: true, isDrifted: false, problem: undefined },
}
const output = base.outputs[0]!
const waiting = { isRight: false, hasServers: true, isDrifted: false, problem: 'ns1: no such name yet' }

const rows: [
  name: string,
  more: Partial<FindingInput>,
  status: string,
  reason: keyof typeof publishReasons,
  said?: RegExp,
][] = [
  ['read back', {}, 'True', 'Published'],
  ['read back with references left out', { leftOut: 3 }, 'True', 'Published', /3 of its references/],
  ['without a zone', { zone: undefined }, 'False', 'NoPublicZone'],
  ['not accepted', { isAccepted: false }, 'Unknown', 'NotAccepted'],
  ['without addresses', { hasMappings: false }, 'False', 'NothingToPublish'],
  ['without a known gateway', { hasPublicGateway: false, sets: 0 }, 'False', 'PublicAddressUnknown', /publicAddresses/],
  ['without a known gateway, inside', { kind: 'internal', hasPublicGateway: false }, 'True', 'Published'],
  ['under a name of an older object', { takenBy: 'shop/old' }, 'False', 'NameTaken', /shop\/old/],
  ['before its names are settled', { sets: 0 }, 'Unknown', 'WaitingForOutput'],
  [
    'where somebody else has the name',
    { outputs: [{ ...output, conflict: 'not ours' }] },
    'False',
    'NotOurs',
    /zone server: not ours/,
  ],
  [
    'where an output fails',
    { outputs: [output, { ...output, isApplied: false, name: 'rfc2136', problem: 'REFUSED' }] },
    'False',
    'OutputFailed',
    /rfc2136: REFUSED/,
  ],
  ['where an output fails that has it already', { outputs: [{ ...output, problem: 'REFUSED' }] }, 'True', 'Published'],
  ['without outputs', { outputs: [], read: waiting }, 'False', 'NoPublisher'],
  ['without outputs, but there', { outputs: [] }, 'True', 'Published'],
  ['before an output took it', { outputs: [{ ...output, isApplied: false }] }, 'Unknown', 'WaitingForOutput'],
  ['with reading back switched off', { read: 'off' }, 'True', 'NotReadBack'],
  [
    'with reading back switched off, before an output took it',
    { read: 'off', outputs: [{ ...output, isApplied: false }] },
    'Unknown',
    'WaitingForOutput',
  ],
  ['with reading back switched off, without outputs', { read: 'off', outputs: [] }, 'False', 'NoPublisher'],
  [
    'with nobody to ask',
    { read: { ...waiting, hasServers: false, problem: 'no server' } },
    'Unknown',
    'NoServers',
    /no server/,
  ],
  ['not there yet', { read: waiting }, 'Unknown', 'WaitingForDns', /no such name yet/],
  ['there no more', { read: { ...waiting, isDrifted: true } }, 'False', 'Drifted'],
]

describe('what is said of the publication of an object', () => {
  it.each(rows)('that is %s', (_, more, status, reason, said = /(?:)/) => {
    const found = publishFinding({ ...base, ...more })
    expect([found.status, found.reason]).toEqual([status, reason])
    expect(found.message).toMatch(said)
  })

  it('has a row here and one in the README for every reason', () => {
    const readme = readFileSync(new URL('../../../../operator/publish/README.md', import.meta.url), 'utf8')
    for (const reason of Object.keys(publishReasons)) {
      expect(rows.map(row => row[3])).toContain(reason)
      expect(readme).toContain(`| \`${reason}\` |`)
    }
  })
})
