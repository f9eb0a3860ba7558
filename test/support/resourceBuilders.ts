/** What rows of cases are made of: objects of our kinds, and texts that are right or wrong wherever they stand (resourceCases.ts). */
import type { OwnKind } from '../../resources/schema/tables.ts'

type Fields = Record<string, unknown>

export interface ResourceCase {
  name: string
  kind: OwnKind
  object: Fields
  old?: Fields
  rule?: string
  /** field that is complained about; absent: accepted */
  refused?: string
}

const API_VERSION = 'ipref.io/v1alpha1'

export function iprefService(spec: Fields, name = 'web'): Fields {
  return { apiVersion: API_VERSION, kind: 'IprefService', metadata: { name, namespace: 'default' }, spec }
}

function clusterObject(kind: OwnKind, name: string, spec: Fields): Fields {
  return { apiVersion: API_VERSION, kind, metadata: { name }, spec }
}

export const iprefPeer = (spec: Fields, name = 'other') => clusterObject('IprefPeer', name, spec)
export const iprefGateway = (spec: Fields, name = 'node-1') => clusterObject('IprefGateway', name, spec)
export const iprefReference = (spec: Fields, name = '9a2') => clusterObject('IprefReference', name, spec)

export const toService = { target: { service: { name: 'web' } } }
export const toPods = (selector: unknown) => ({ target: { pods: { selector } } })
export const toAddress = (address: unknown) => ({ target: { address } })
export const peer = (more: Fields) => ({ gateway: { address: '203.0.113.2' }, ...more })
export const excepting = (except: unknown) => peer({ inbound: { policy: 'Deny', except: [except] } })
export const claim = { namespace: 'shop', name: 'web', uid: 'u-1', slot: 0, family: 'IPv4' }
export const released = { ...claim, releasedAt: '2026-01-31T12:00:00Z' }

/** sentence, what the object says, field that is complained about */
type Row = readonly [name: string, spec: Fields, refused?: string]

export function rowsOf(
  kind: OwnKind,
  make: (spec: Fields) => Fields,
  table: Readonly<Record<string, readonly Row[]>>,
): ResourceCase[] {
  return Object.entries(table).flatMap(([rule, rows]) =>
    rows.map(([name, spec, refused]) => ({
      name,
      kind,
      object: make(spec),
      ...(rule !== 'schema' && { rule }),
      ...(refused !== undefined && { refused }),
    })),
  )
}

/** sentence, before, after, field that is complained about */
type ChangeRow = readonly [name: string, old: Fields, spec: Fields, refused?: string]

export function changesOf(
  kind: OwnKind,
  make: (spec: Fields) => Fields,
  table: Readonly<Record<string, readonly ChangeRow[]>>,
): ResourceCase[] {
  return Object.entries(table).flatMap(([rule, rows]) =>
    rows.map(([name, old, spec, refused]) => ({
      name,
      kind,
      old: make(old),
      object: make(spec),
      rule,
      ...(refused !== undefined && { refused }),
    })),
  )
}

export const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

export const references = {
  good: ['1-0', '2466', '65535', '8a3f-0-12', 'ffff-ffff-ffff-ffff-ffff-ffff-ffff-ffff'],
  bad: [
    '0',
    '00',
    '011',
    '65536',
    '0-7000',
    '1-00',
    '8A3F-1',
    '1--1',
    'a--',
    '1-',
    '-1',
    'abc',
    '1-2-3-4-5-6-7-8-9',
    '+5',
    ' 5',
    '0x5',
  ],
}

export const addresses = {
  good: ['192.0.2.7', '127.0.0.1', '169.254.1.1', '2001:db8::7', '2001:db8:0:1::', '::1', 'fe80::1', '240.0.0.1'],
  bad: [
    '192.0.2.07',
    '192.0.2',
    '192.0.2.256',
    '2001:DB8::7',
    '2001:db8:0:0::7',
    '::ffff:192.0.2.7',
    '::ffff:c000:207',
    'fe80::1%eth0',
    'web',
    '1.2.3.4 ',
  ],
  ofNoHost: ['0.0.0.0', '::', '224.0.0.1', '239.1.1.1', 'ff02::1', '255.255.255.255'],
}

export const refused = (name: string, of: (text: string) => Fields, texts: readonly string[], field: string): Row[] =>
  texts.map(text => [`${name} ${JSON.stringify(text)}`, of(text), field])
export const accepted = (name: string, of: (text: string) => Fields, texts: readonly string[]): Row[] =>
  texts.map(text => [`${name} ${text}`, of(text)])
