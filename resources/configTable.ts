/**
 * The table of the platform's settings (decisions.md 18): ConfigMap `ipref-config`, key `config.yaml`; the chart's `config:` values; `ipref-config.yaml` of a
 * folder of manifests. docs/resources.md is made from it; config.ts reads.
 */
import {
  boolean,
  type Field,
  integer,
  list,
  map,
  object,
  type Rule,
  required,
  rule,
  type TextField,
  text,
} from './schema/schema.ts'
import {
  address,
  DNS_LABEL,
  DNS_NAME,
  dnsLabel,
  dnsName,
  endpoint,
  labelValue,
  oneOfEachFamily,
  prefix,
} from './schema/texts.ts'

// ---- texts that only settings have

export const DURATION = '^([0-9]+(ms|s|m|h|d))+$'

function duration(about: string, standard: string): TextField {
  return text(about, { pattern: DURATION, most: 32, right: 'a time such as 40s, 10m or 24h', default: standard })
}

/** People write the dot at the end of a whole name; it is taken away. */
function wholeName(about: string, more: Partial<TextField> = {}): TextField {
  const pattern = `${DNS_NAME.slice(0, -1)}\\.?$`
  return { ...dnsName(about), most: 254, pattern, right: 'a whole name in lower case, such as example.com', ...more }
}

const grantName: TextField = {
  ...dnsName('A name, or all names one label below another. Examples: www.example.com, *.shop.example.com'),
  pattern: `^(\\*\\.)?${DNS_NAME.slice(1)}`,
  right: 'a whole name in lower case such as www.example.com, or *.shop.example.com for all that are one label below',
}

function tsigKey(about: string): TextField {
  return text(about, {
    pattern: '^hmac-sha(1|224|256|384|512):[a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?\\.?:[A-Za-z0-9+/]+={0,2}$',
    most: 1024,
    right: 'ALGORITHM:NAME:SECRET with the secret in base64, such as hmac-sha256:transfer:bXkgc2VjcmV0',
    isSecret: true,
  })
}

const keySecret = object('A TSIG key in a Secret, as ALGORITHM:NAME:SECRET.', {
  namespace: dnsLabel("Namespace of the Secret. Absent: the operator's own."),
  name: required(dnsName('Name of the Secret. Example: dns-key')),
  key: text('Which of its entries.', { least: 1, most: 253, default: 'key' }),
})

const zoneNames = ['public', 'internal', 'both'] as const

const withPort = rule<string>({
  id: 'has-port',
  problem: 'no port',
  right: 'ADDRESS:PORT, such as 0.0.0.0:5353 or [::]:5353',
  test: self => /^([0-9.]+|\[.*\]):[0-9]+$/.test(self),
})

const listenEndpoint: TextField = {
  ...endpoint('ADDRESS:PORT. Example: 0.0.0.0:5353'),
  rules: [...(endpoint('').rules ?? []), withPort],
}

const oneKey: Rule = rule<{ key?: string; keySecret?: unknown }>({
  id: 'one-key',
  problem: 'key and keySecret',
  right: 'one of them',
  test: self => self.key === undefined || self.keySecret === undefined,
})

const resolverIsKnown: Rule = rule<{ manage: boolean; resolver?: string }>({
  id: 'resolver-is-known',
  problem: 'the cluster DNS shall be changed, but not where to',
  right: "resolver: the ClusterIP of the resolvers' Service, such as 10.96.0.53",
  at: 'resolver',
  test: self => !self.manage || self.resolver !== undefined,
})

// ---- the table

export const configTable = object('Settings of the platform.', {
  encodingNetworks: list(
    'Encoding networks, at most one of each IP version: addresses that stand for hosts of other networks. They must not meet pod, service or node networks.',
    prefix('A prefix. Example: 10.176.0.0/12'),
    { least: 1, most: 2, unique: 'items', rules: [oneOfEachFamily('prefix')], default: ['10.176.0.0/12'] },
  ),
  internalZone: wholeName('DNS zone with native addresses, for use inside. Example: internal.example.com', {
    default: 'ipref.internal',
  }),
  publicZone: wholeName(
    'DNS zone with AA records, for other networks. Absent: nothing is published outside. Example: example.com',
  ),
  grants: list(
    'Names beyond <hostname>.<namespace> that namespaces may use.',
    object('Names for one namespace.', {
      namespace: required(dnsLabel('The namespace. Example: shop')),
      names: required(
        list(
          'Names, below the internal or the public zone; *.NAME grants all that are one label below NAME.',
          grantName,
          {
            least: 1,
            most: 1000,
            unique: 'items',
          },
        ),
      ),
    }),
    { most: 1000, default: [] },
  ),
  targets: object(
    'Targets that are no pods.',
    {
      allowedRanges: list(
        'Where IprefServices may point to outside the cluster, by address or by hand-written EndpointSlices.',
        object('One range.', {
          cidr: required(prefix('Prefix of the addresses. Example: 192.0.2.0/24')),
          namespaces: list('Namespaces that may. Absent: all.', dnsLabel('A namespace. Example: shop'), {
            least: 1,
            most: 1000,
            unique: 'items',
          }),
        }),
        { most: 1000, default: [] },
      ),
    },
    { default: {} },
  ),
  inbound: object(
    'What other networks may reach.',
    {
      default: text('For networks whose IprefPeer says nothing, and for those without one: allow or deny.', {
        oneOf: ['allow', 'deny'],
        default: 'allow',
      }),
    },
    { default: {} },
  ),
  referenceLength: integer('Bytes of the references that are allocated: 8, or 4 for shorter headers.', {
    oneOf: [4, 8],
    default: 8,
  }),
  referenceHoldTime: duration(
    'How long the references of a deleted IprefService are kept for one of the same name. Example: 24h',
    '24h',
  ),
  sliceLengths: object(
    'Prefix lengths of the slices into which the encoding networks are cut, one slice for each gateway.',
    {
      ipv4: integer('For IPv4.', { least: 9, most: 30, default: 18 }),
      ipv6: integer('For IPv6.', { least: 9, most: 124, default: 80 }),
    },
    { default: {} },
  ),
  uplink: text(
    'perNode: each gateway talks to other networks itself, and needs a public address of its own. single: one of them does, chosen by a Lease. auto: perNode where each published gateway has a public address of its own, else single.',
    { oneOf: ['auto', 'perNode', 'single'], default: 'auto' },
  ),
  nodeNetwork: text(
    "How nodes reach each other's slices. direct: routes on a shared link. vxlan: through a VXLAN of our own. auto: direct where a probe comes back, else vxlan.",
    { oneOf: ['auto', 'direct', 'vxlan'], default: 'auto' },
  ),
  gatewayNodeSelector: map(
    'Labels of the nodes that get slices. Empty: all. Example: {ipref.io/gateway: "true"}',
    labelValue('Value of the label.'),
    {
      most: 32,
      default: {},
    },
  ),
  publicAddresses: map(
    'Public addresses of gateways, by node name, for nodes without an ExternalIP. Example: {node-1: [198.51.100.1]}',
    list('Addresses, at most one of each IP version.', address('An address. Example: 198.51.100.1'), {
      least: 1,
      most: 2,
      unique: 'items',
      rules: [oneOfEachFamily('address')],
    }),
    { most: 5000, default: {} },
  ),
  podNetworks: list('Pod networks beyond those that the cluster says.', prefix('A prefix. Example: 10.244.0.0/16'), {
    most: 64,
    unique: 'items',
    default: [],
  }),
  serviceNetworks: list(
    'Service networks beyond those that the cluster says.',
    prefix('A prefix. Example: 10.96.0.0/12'),
    {
      most: 64,
      unique: 'items',
      default: [],
    },
  ),
  gatewayStaleTime: duration(
    'How long a gateway may be silent before it is not waited for any more. Example: 40s',
    '40s',
  ),
  nodeReleaseTime: duration('How long the slices of a node that is gone are kept. Example: 10m', '10m'),
  publishers: object(
    'Where records are published; several at once.',
    {
      zoneServer: object('The built-in DNS server, from which secondaries transfer. Absent: off.', {
        listen: list('Where it listens.', listenEndpoint, {
          least: 1,
          most: 8,
          unique: 'items',
          default: ['0.0.0.0:5353'],
        }),
        nameServers: required(
          list(
            'Names of the servers of the zones, the first for SOA records. Example: [ns1.example.com]',
            wholeName('A name.'),
            {
              least: 1,
              most: 8,
              unique: 'items',
            },
          ),
        ),
        transfer: object(
          'Who may transfer the zones.',
          {
            allow: list('Networks of the secondaries. Empty: nobody.', prefix('A prefix. Example: 192.0.2.53/32'), {
              most: 64,
              unique: 'items',
              default: [],
            }),
            keys: list(
              'TSIG keys; where there are any, transfers must be signed with one.',
              tsigKey('ALGORITHM:NAME:SECRET'),
              {
                most: 16,
                default: [],
              },
            ),
            keySecrets: list('More of them, in Secrets.', keySecret, { most: 16, default: [] }),
          },
          { default: {} },
        ),
        notify: list(
          'Servers that are told of changes, as ADDRESS or ADDRESS:PORT, beside the name servers.',
          endpoint('A server. Example: 192.0.2.53'),
          {
            most: 16,
            unique: 'items',
            default: [],
          },
        ),
      }),
      rfc2136: list(
        'DNS servers that take dynamic updates (RFC 2136).',
        object(
          'One server.',
          {
            zone: text('Which zone: public, internal or both.', { oneOf: zoneNames, default: 'public' }),
            server: required(endpoint('The server, as ADDRESS or ADDRESS:PORT. Example: 192.0.2.53:53')),
            key: tsigKey('TSIG key, as ALGORITHM:NAME:SECRET. Better in a Secret.'),
            keySecret,
            owner: {
              ...text(
                'What our ownership marks say; records with another mark are left alone. Different for each cluster. Example: cluster-1',
                {
                  default: 'ipref',
                  least: 1,
                  most: 63,
                },
              ),
              pattern: DNS_LABEL,
              right: 'up to 63 lower-case letters, digits and dashes',
            },
          },
          { rules: [oneKey] },
        ),
        { most: 16, default: [] },
      ),
      dnsEndpoint: object('DNSEndpoint objects for external-dns, version 0.22 or later. Absent: off.', {
        namespace: dnsLabel("Their namespace. Absent: the operator's own."),
        quoting: text(
          'Whether targets carry quotes, which depends on the provider: quoted for rfc2136, plain for CoreDNS.',
          {
            oneOf: ['quoted', 'plain'],
            default: 'quoted',
          },
        ),
        zones: list('Which zones.', text('public or internal.', { oneOf: ['public', 'internal'] }), {
          least: 1,
          most: 2,
          unique: 'items',
          default: ['public'],
        }),
      }),
      configMap: object('A ConfigMap with the text of the zones, for CoreDNS and others. Absent: off.', {
        namespace: dnsLabel("Its namespace. Absent: the operator's own."),
        name: { ...dnsName('Its name.'), default: 'ipref-zones' },
      }),
    },
    { default: {} },
  ),
  readBack: object(
    'How published records are read back, before an IprefService counts as published.',
    {
      mode: text(
        "Authoritative asks each server of the zone. Resolver asks a resolver, as other networks' do. Off: nothing is read back, and the conditions say NotReadBack.",
        { oneOf: ['Authoritative', 'Resolver', 'Off'], default: 'Authoritative' },
      ),
      servers: list(
        'Servers to ask, as ADDRESS or ADDRESS:PORT. Empty: those that the zone names, or the resolver of the system.',
        endpoint('A server. Example: 192.0.2.53'),
        {
          most: 16,
          unique: 'items',
          default: [],
        },
      ),
      intervalSeconds: integer('Time between two looks at what is published, in seconds.', {
        least: 1,
        most: 3600,
        default: 30,
      }),
    },
    { default: {} },
  ),
  clusterDns: object(
    'How pods come to resolve names of other networks.',
    {
      manage: boolean(
        "A marked block of stub domains is kept in CoreDNS's configuration. Otherwise a condition says the lines to add.",
        {
          default: false,
        },
      ),
      namespace: { ...dnsLabel('Namespace of that ConfigMap.'), default: 'kube-system' },
      configMap: { ...dnsName('Name of that ConfigMap.'), default: 'coredns' },
      resolver: endpoint("ClusterIP of the resolvers' Service. Example: 10.96.0.53"),
    },
    { rules: [resolverIsKnown], default: {} },
  ),
} satisfies Record<string, Field>)
