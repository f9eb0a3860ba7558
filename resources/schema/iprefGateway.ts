/** The tables of IprefGateway, one gateway of this cluster, and of IprefReference, the claim on one reference (decisions.md 19 to 21). */
import { gatewayConditions, type IprefReference, type IprefReferenceSpec } from '../kinds.ts'
import { observationFields } from './iprefPeer.ts'
import { boolean, integer, type KindTable, list, object, type Rule, required, rule, text } from './schema.ts'
import {
  address,
  conditions,
  DNS_NAME,
  dnsLabel,
  dnsName,
  observedGeneration,
  oneOfEachFamily,
  prefix,
  time,
} from './texts.ts'

const spec = object('The place of the gateway. The operator fills in what is absent; a person may pin it.', {
  nodeName: dnsName('Name of the node that it runs on. Absent: a gateway outside Kubernetes. Example: node-1'),
  slices: list(
    'Slices of the encoding networks, at most one of each IP version: addresses that this gateway gives to remote hosts. Absent: allotted by the operator, and kept. Example: [10.177.0.0/18]',
    prefix('A prefix. Example: 10.177.0.0/18'),
    { most: 2, unique: 'items', rules: [oneOfEachFamily('prefix')] },
  ),
  publicAddresses: list(
    "The gateway's addresses as other networks know them, at most one of each IP version. Absent: from the node's annotation, its ExternalIP or the configuration; else unknown, and then no record names it. Example: [198.51.100.1]",
    address('An address. Example: 198.51.100.1'),
    { most: 2, unique: 'items', rules: [oneOfEachFamily('address')] },
  ),
  publish: boolean('AA records name this gateway.', { default: true }),
})

const status = object('What the gateway reports. It alone writes this.', {
  observedGeneration,
  conditions: conditions(gatewayConditions),
  observedResourceVersion: text(
    'All IprefServices and IprefPeers up to this resourceVersion are in force, but for those refused.',
    { most: 64 },
  ),
  refused: list(
    'Objects that are not in force here.',
    object('One object.', {
      namespace: required(text('Its namespace; empty for an IprefPeer.', { most: 63 })),
      name: required(text('Its name.', { least: 1, most: 253 })),
      reason: required(text('Why, as one word for programs.', { least: 1, most: 256 })),
      message: required(text('Why, for people.', { most: 4096 })),
    }),
    { most: 1024 },
  ),
  version: text('Version of the gateway program.', { most: 64 }),
  nodeAddresses: list('Addresses of its node.', text('An address.', { least: 2, most: 45 }), { most: 64 }),
  publicAddresses: list(
    'Addresses by which other networks reach it, in force; none: it does not know them.',
    text('An address.', { least: 2, most: 45 }),
    { most: 16 },
  ),
  tunMtu: integer('MTU of the interface of the gateway, in bytes.', { least: 0, most: 65535 }),
  offloads: list('Offloads of the kernel in use. Example: [tun-gso, udp-gro]', text('One of them.', { most: 64 }), {
    most: 32,
  }),
  peers: list('What it sees of remote gateways.', object('One remote gateway.', observationFields), { most: 1024 }),
})

export const iprefGateway: KindTable = {
  about:
    'IprefGateway is one gateway of this cluster: its node, its slices of the encoding networks, its public addresses; and what it reports. The operator makes one for each node that runs a gateway.',
  shortNames: ['iprefgw'],
  columns: [
    {
      name: 'Ready',
      type: 'string',
      about: 'Running, with everything in force.',
      path: '.status.conditions[?(@.type=="Ready")].status',
    },
    { name: 'Node', type: 'string', about: 'Its node.', path: '.spec.nodeName' },
    { name: 'Slices', type: 'string', about: 'Its slices of the encoding networks.', path: '.spec.slices' },
    { name: 'Public', type: 'string', about: 'Its public addresses.', path: '.status.publicAddresses' },
    { name: 'Age', type: 'date', about: 'Time since it was made.', path: '.metadata.creationTimestamp' },
  ],
  name: { ...dnsName('Name of the object: that of its node.'), pattern: DNS_NAME },
  spec,
  status,
}

// ---- IprefReference

/** Without leading zeros; less than 16 in bits 15..8, so the fourth digit from the right is 0. */
const HEX = '^([1-9a-f][0-9a-f]{0,2}|[1-9a-f][0-9a-f]{0,27}0[0-9a-f]{3})$'

const ownerFields = ['namespace', 'name', 'uid', 'slot', 'family'] as const

const claimStays: Rule = rule<IprefReferenceSpec>({
  id: 'claim-stays',
  problem: 'a claim in use that is given to another owner',
  right:
    'the namespace, name, uid, slot and family that were there; another owner may take it up when releasedAt was set, and is taken away',
  reason: 'FieldValueForbidden',
  isTransition: true,
  cel: `${ownerFields
    .map(name => (name === 'namespace' ? '__namespace__' : name))
    .map(name => `self.${name} == oldSelf.${name}`)
    .join(' && ')} || (has(oldSelf.releasedAt) && !has(self.releasedAt))`,
  test: (self, old) =>
    ownerFields.every(name => self[name] === old[name]) ||
    (old.releasedAt !== undefined && self.releasedAt === undefined),
})

export const iprefReference: KindTable = {
  about:
    'IprefReference is the claim of one IprefService on one reference: creating it is the claim, so that no reference has two owners. Its name is the reference in hexadecimal. The operator makes and removes them.',
  shortNames: ['iprefref'],
  columns: [
    { name: 'Namespace', type: 'string', about: 'Of the IprefService that owns it.', path: '.spec.namespace' },
    { name: 'Service', type: 'string', about: 'The IprefService that owns it.', path: '.spec.name' },
    { name: 'Slot', type: 'integer', about: 'Place among the references of its owner.', path: '.spec.slot' },
    { name: 'Family', type: 'string', about: 'IPv4 or IPv6.', path: '.spec.family', isWide: true },
    { name: 'Released', type: 'date', about: 'Time since its owner is gone.', path: '.spec.releasedAt', isWide: true },
    { name: 'Age', type: 'date', about: 'Time since it was made.', path: '.metadata.creationTimestamp' },
  ],
  name: text('The reference in hexadecimal, without leading zeros.', {
    least: 1,
    most: 32,
    pattern: HEX,
    right: 'the reference in hexadecimal, without leading zeros, and with less than 16 in bits 8 to 15; such as 9a2',
    examples: ['9a2', 'b', '8a3f00000812'],
  }),
  rules: [
    rule<IprefReference>({
      id: 'not-the-gateway',
      problem: "the gateway's own reference",
      right: 'any but 1',
      at: 'metadata.name',
      cel: "self.metadata.name != '1'",
      test: self => self.metadata.name !== '1',
    }),
  ],
  spec: object(
    'The owner of the reference.',
    {
      namespace: required(dnsLabel('Namespace of the IprefService that owns the reference.')),
      name: required(dnsLabel('Name of the IprefService that owns the reference.')),
      uid: required(
        text('UID of that IprefService.', { least: 1, most: 64, examples: ['0b4b2b54-9bd2-4a25-a2a4-1f1f0f5b7f0e'] }),
      ),
      slot: required(integer('Place of the address among those of the owner.', { least: 0, most: 2147483647 })),
      family: required(text('IPv4 or IPv6.', { oneOf: ['IPv4', 'IPv6'] })),
      releasedAt: time(
        'When the owner was seen gone. The reference is kept for a while, and given to an IprefService of the same name.',
      ),
    },
    { rules: [claimStays] },
  ),
}
