/**
 * Fields that several tables share: references, addresses, prefixes, names, label selectors, ports. Everything is canonical text, so that equal values are
 * equal strings (wire.md section 1, decisions.md 21).
 *
 * The CEL functions for addresses are those of Kubernetes 1.31 (`isIP`, `ip.isCanonical`, `isCIDR`); the tests beside them say the same of the same texts:
 * an IPv4-mapped IPv6 address, for one, is neither.
 */
import { formatAddress, formatPrefix, isLinkLocal, isLoopback, parseAddress, parsePrefix } from '../../ipref/address.ts'
import { isStaticReference } from '../../ipref/lifetimes.ts'
import { formatReference, parseReference } from '../../ipref/reference.ts'
import { integer, list, map, object, type Rule, required, rule, type TextField, text } from './schema.ts'

// ---- references

const DECIMAL_16 = '[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]'
const TOP_GROUP = '[1-9a-f][0-9a-f]{0,3}'
const GROUP = '0|[1-9a-f][0-9a-f]{0,3}'
/** Canonical, and not 0. */
export const REFERENCE = `^(${DECIMAL_16}|${TOP_GROUP}(-(${GROUP})){1,7})$`
/** Canonical, not 0, and less than 16 in bits 15..8. */
export const STATIC_REFERENCE = `^([1-9][0-9]{0,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-5]|${TOP_GROUP}(-(${GROUP})){0,6}-(0|[1-9a-f][0-9a-f]{0,2}))$`
/** Eight groups of four, and dashes. */
const REFERENCE_LENGTH = 39

function isCanonicalReference(text: string): boolean {
  const value = parseReference(text)
  return value !== undefined && value > 0n && formatReference(value) === text
}

const referenceText = rule<string>({
  id: 'reference',
  problem: 'not a reference in canonical form',
  right: 'below 65536 in decimal, such as 2466; else groups of 16 bits in hexadecimal, such as 8a3f-0-12; never 0',
  cel: `self.matches('${REFERENCE}')`,
  test: isCanonicalReference,
})

const staticReference = rule<string>({
  id: 'static',
  problem: 'a reference for passing mappings',
  right: 'less than 16 in bits 8 to 15, such as 2466 or 8a3f-812: those above are given out by gateways for a while',
  cel: `!self.matches('${REFERENCE}') || self.matches('${STATIC_REFERENCE}')`,
  test: self => !isCanonicalReference(self) || isStaticReference(parseReference(self)!),
})

const notTheGateway = rule<string>({
  id: 'not-the-gateway',
  problem: "the gateway's own reference",
  right: 'any but 1',
  cel: "self != '1'",
  test: self => self !== '1',
})

/** Given out by another network: any. */
export function reference(about: string): TextField {
  return text(about, {
    right: referenceText.right,
    most: REFERENCE_LENGTH,
    rules: [referenceText],
    examples: ['11', '2466', '65535', '1-0', '8a3f-0-12', 'ffff-ffff-ffff-ffff-ffff-ffff-ffff-ffff', '1'],
  })
}

/** Of a host of ours: one that lasts. */
export function ownReference(about: string): TextField {
  return text(about, {
    ...reference(about),
    rules: [referenceText, staticReference, notTheGateway],
    examples: ['11', '2466', '4095', '1-0', '8a3f-0-812', '7-7-7-7-7-7-7-fff'],
  })
}

// ---- addresses

/** 45: an IPv6 address that ends in an IPv4 one */
const ADDRESS_LENGTH = 45

/** What Kubernetes takes for an address: no zone, and no IPv4 address in the clothes of an IPv6 one. */
function parseIp(text: string): Uint8Array | undefined {
  const address = parseAddress(text)
  return address && !formatAddress(address).startsWith('::ffff:') ? address : undefined
}

export function isIpText(text: string): boolean {
  return parseIp(text) !== undefined
}

function isHostAddress(address: Uint8Array): boolean {
  if (isLoopback(address) || isLinkLocal(address)) return true
  if (address.every(byte => byte === 0)) return false
  if (address.length === 16) return address[0] !== 0xff
  return address[0]! >> 4 !== 14 && !address.every(byte => byte === 255)
}

const canonicalAddress = rule<string>({
  id: 'address',
  problem: 'not an IP address in canonical form',
  right: 'such as 192.0.2.7 or 2001:db8::7: lower case, without leading zeros, the longest zeros as ::',
  cel: 'isIP(self) && ip.isCanonical(self)',
  test: self => {
    const address = parseIp(self)
    return address !== undefined && formatAddress(address) === self
  },
})

const hostAddress = rule<string>({
  id: 'host-address',
  problem: 'no address of one host',
  right: 'not all zeros, not a multicast and not a broadcast address',
  cel: '!isIP(self) || ip(self).isGlobalUnicast() || ip(self).isLoopback() || ip(self).isLinkLocalUnicast()',
  test: self => {
    const address = parseIp(self)
    return address === undefined || isHostAddress(address)
  },
})

export function address(about: string): TextField {
  return text(about, {
    least: 2,
    most: ADDRESS_LENGTH,
    right: canonicalAddress.right,
    rules: [canonicalAddress, hostAddress],
    examples: ['192.0.2.7', '10.0.0.1', '2001:db8::7', 'fd00:0:0:1::', '127.0.0.1'],
  })
}

function parseCidr(text: string): string | undefined {
  const prefix = parsePrefix(text)
  if (!prefix || formatAddress(prefix.address).startsWith('::ffff:')) return undefined
  return formatPrefix(prefix)
}

const canonicalPrefix = rule<string>({
  id: 'prefix',
  problem: 'not an address prefix in canonical form',
  right: 'such as 10.176.0.0/18 or fd24::/80: all bits beyond its length are zero',
  cel: 'isCIDR(self) && cidr(self) == cidr(self).masked() && string(cidr(self)) == self',
  test: self => parseCidr(self) === self,
})

export function prefix(about: string): TextField {
  return text(about, {
    least: 4,
    most: ADDRESS_LENGTH + 4,
    right: canonicalPrefix.right,
    rules: [canonicalPrefix],
    examples: ['10.176.0.0/18', 'fd24::/80', '192.0.2.7/32', '0.0.0.0/0'],
  })
}

const endpointPort = `:(${DECIMAL_16})`
const isPortOf = (text: string) => new RegExp(`^(${DECIMAL_16})$`).test(text)

/** ADDRESS or ADDRESS:PORT, IPv6 in brackets before a port. */
function isEndpoint(text: string): boolean {
  if (parseIp(text)) return true
  const match = /^(?:([0-9.]+)|\[([0-9a-f:.]+)\]):([0-9]+)$/.exec(text)
  return match !== null && isPortOf(match[3]!) && parseIp(match[1] ?? match[2]!) !== undefined
}

const endpointRule = rule<string>({
  id: 'endpoint',
  problem: 'neither an address nor an address with a port',
  right: 'such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53',
  cel: [
    'isIP(self)',
    `(self.matches('^[0-9.]+${endpointPort}$') && isIP(self.split(':')[0]))`,
    `(self.matches('^\\\\[[0-9a-f:.]+\\\\]${endpointPort}$') && isIP(self.substring(1, self.indexOf(']'))))`,
  ].join(' || '),
  test: isEndpoint,
})

export function endpoint(about: string): TextField {
  return text(about, {
    least: 2,
    most: 53,
    right: endpointRule.right,
    rules: [endpointRule],
    examples: ['192.0.2.53', '192.0.2.53:5353', '[2001:db8::53]:53', '2001:db8::53'],
  })
}

/** At most one of each family, for lists of two. */
export function oneOfEachFamily(kind: 'address' | 'prefix'): Rule {
  const [is, family] = kind === 'address' ? ['isIP', 'ip(x).family()'] : ['isCIDR', 'cidr(x).ip().family()']
  const isRead = (text: string) => (kind === 'address' ? parseIp(text) : parseCidr(text)) !== undefined
  const first = family.replace('x', 'self[0]')
  const second = family.replace('x', 'self[1]')
  return rule<string[]>({
    id: 'one-of-each-family',
    problem: 'two of the same IP version',
    right: 'at most one IPv4 and one IPv6',
    cel: `self.size() != 2 || !self.all(x, ${is}(x)) || ${first} != ${second}`,
    test: self => self.length !== 2 || !self.every(isRead) || self[0]!.includes(':') !== self[1]!.includes(':'),
  })
}

// ---- names

const LABEL = '[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?'

export const DNS_LABEL = `^${LABEL}$`
/** Lower case, without a dot at its end. */
export const DNS_NAME = `^${LABEL}(\\.${LABEL})*$`

const labelRight = 'up to 63 lower-case letters, digits and dashes; first and last no dash; such as web'
const nameRight =
  'labels of lower-case letters, digits and dashes with dots between, none at its end; such as www.example.com'

export function dnsLabel(about: string): TextField {
  const examples = ['web', 'a', 'web-0', '0', 'x'.repeat(63)]
  return text(about, { least: 1, most: 63, pattern: DNS_LABEL, right: labelRight, examples })
}

export function dnsName(about: string): TextField {
  const examples = ['www.example.com', 'example.com', 'corp', 'a.b.c.d.e', 'xn--nxasmq6b.example']
  return text(about, { least: 1, most: 253, pattern: DNS_NAME, right: nameRight, examples })
}

/** Exactly one of these members. */
export function exactlyOne(names: readonly string[], right: string): Rule {
  return rule<Record<string, unknown>>({
    id: 'exactly-one',
    problem: `${names.slice(0, -1).join(', ')} and ${names.at(-1)}: not exactly one of them`,
    right,
    cel: `[${names.map(name => `has(self.${name})`).join(', ')}].exists_one(x, x)`,
    test: self => names.filter(name => self[name] !== undefined).length === 1,
  })
}

// ---- labels

const LABEL_KEY = '^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'
const LABEL_VALUE = '^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$'

export interface Selector {
  matchLabels?: Record<string, string>
  matchExpressions?: { operator: string; values?: string[] }[]
}

export const notEmpty =
  '(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)'

export function isEmptySelector({ matchLabels = {}, matchExpressions = [] }: Selector): boolean {
  return Object.keys(matchLabels).length === 0 && matchExpressions.length === 0
}

export function labelValue(about: string): TextField {
  const examples = ['web', '', 'v1.2_3', 'A']
  return text(about, { most: 63, pattern: LABEL_VALUE, right: 'the value of a label, such as web', examples })
}

export function labelKey(about: string): TextField {
  const examples = ['app', 'app.kubernetes.io/name', 'tier_2']
  return text(about, { least: 1, most: 317, pattern: LABEL_KEY, right: 'the name of a label, such as app', examples })
}

const valuesFit = rule<{ operator: string; values?: string[] }>({
  id: 'values-fit-operator',
  problem: 'values that do not fit the operator',
  right: 'In and NotIn need values, Exists and DoesNotExist take none',
  cel: "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
  test: ({ operator, values = [] }) => ['In', 'NotIn'].includes(operator) === values.length > 0,
})

/** A label selector, as Deployments and NetworkPolicies have it. */
export function selector(about: string, rules: readonly Rule[] = []) {
  return object(
    about,
    {
      matchLabels: map('Labels that must have these values. Example: {app: web}', labelValue('Value of the label.'), {
        most: 32,
      }),
      matchExpressions: list(
        'Conditions on labels, which must all hold.',
        object(
          'One condition on a label.',
          {
            key: required(labelKey('Name of the label.')),
            operator: required(
              text('How the label is compared.', { oneOf: ['In', 'NotIn', 'Exists', 'DoesNotExist'] }),
            ),
            values: list('Values to compare with, for In and NotIn.', labelValue('One value.'), { most: 32 }),
          },
          { rules: [valuesFit] },
        ),
        { most: 16 },
      ),
    },
    { rules },
  )
}

// ---- ports

const portRange = rule<{ port: number; endPort?: number }>({
  id: 'port-range',
  problem: 'a range of ports that ends before it begins',
  right: 'endPort at least port',
  at: 'endPort',
  cel: '!has(self.endPort) || self.endPort >= self.port',
  test: ({ port, endPort }) => endPort === undefined || endPort >= port,
})

const MAX_PORTS = 64

function portList(about: string, rules: readonly Rule[]) {
  return list(
    about,
    object(
      'One port or range of ports.',
      {
        port: required(integer('Port, 1 to 65535; the first one of a range. Example: 443', { least: 1, most: 65535 })),
        endPort: integer('Last port of a range. Absent: port alone.', { least: 1, most: 65535 }),
        protocol: text('Protocol: TCP, UDP or SCTP.', { oneOf: ['TCP', 'UDP', 'SCTP'], default: 'TCP' }),
      },
      { rules },
    ),
    { most: MAX_PORTS, unique: ['port', 'protocol'] },
  )
}

export function ports(about: string) {
  return portList(about, [portRange])
}

/** In a status, where no rule bounds them. */
export function reportedPorts(about: string) {
  return portList(about, [])
}

// ---- status

export const observedGeneration = integer(
  'The metadata.generation of the object that this status is about; -1 before the first visit.',
  { default: -1, isLong: true },
)

const HOUR_MINUTE = '([01][0-9]|2[0-3]):[0-5][0-9]'
/** RFC 3339. Not `format: date-time`, with which API servers take lists of texts too. */
const TIME = `^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T${HOUR_MINUTE}:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]${HOUR_MINUTE})$`

export function time(about: string): TextField {
  const right = 'a time such as 2026-01-31T12:00:00Z'
  const examples = ['2026-01-31T12:00:00Z', '2026-01-31T12:00:00.123+01:00']
  return text(about, { pattern: TIME, right, most: 64, examples })
}

export function conditions(types: readonly string[]) {
  return list(
    `What is known of the object, one condition of each type: ${types.join(', ')}. Reasons are in the documentation.`,
    object('One condition.', {
      type: required(text(`Type: ${types.join(', ')}.`, { least: 1, most: 316 })),
      status: required(text('True, False or Unknown.', { oneOf: ['True', 'False', 'Unknown'] })),
      reason: required(
        text('Why, as one word for programs. Example: NoReadyEndpoints', {
          least: 1,
          most: 1024,
          pattern: '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$',
          right: 'one word such as NoReadyEndpoints',
          examples: ['Ready'],
        }),
      ),
      message: required(text('Why, for people.', { most: 32768 })),
      lastTransitionTime: required(time('When the status changed last.')),
      observedGeneration: integer('The metadata.generation of the object that this condition is about.', {
        least: 0,
        isLong: true,
      }),
    }),
    { most: 16, unique: ['type'] },
  )
}
