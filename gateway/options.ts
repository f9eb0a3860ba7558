/**
 * The options of `ipref gateway`: one table, from which the command line, the configuration file and the help text are made
 * (spec/flags.md for those that deployed gateways have too).
 */
import { type OptionGroup, optionsOf, type Program } from '../runtime/settings.ts'
import { agentOptions } from './dns/agentOptions.ts'
import { resolverOptions } from './dns/resolverOptions.ts'
import { zoneOptions } from './dns/zones.ts'
import { kubeOptions } from './kube/kubeOptions.ts'

const groups: readonly OptionGroup[] = [
  {
    title: 'Addresses',
    options: [
      {
        name: 'gateway',
        kind: 'address',
        many: true,
        value: 'ADDRESS',
        help: 'short for -gateway-bind and -gateway-pub with the same address',
      },
      {
        name: 'gateway-bind',
        kind: 'address',
        many: true,
        value: 'ADDRESS',
        help: 'address to listen on; once for each IP family',
      },
      {
        name: 'gateway-pub',
        kind: 'address',
        many: true,
        value: 'ADDRESS',
        help: 'our address as other networks know it; absent or zeros: unknown',
      },
      {
        name: 'gateway-port',
        kind: 'number',
        standard: 1045,
        least: 1,
        most: 65535,
        value: 'PORT',
        help: 'UDP port to listen on',
      },
      {
        name: 'gateway-ref',
        kind: 'reference',
        standard: '1',
        value: 'REFERENCE',
        help: "the gateway's own reference",
      },
      {
        name: 'gateway-ifc-mtu',
        kind: 'number',
        least: 576,
        most: 65535,
        value: 'BYTES',
        help: 'MTU of the public side; default: that of the interface',
      },
      {
        name: 'encode-net',
        kind: 'prefix',
        many: true,
        standard: '10.240.0.0/12',
        value: 'PREFIX',
        help: 'encoding network; once for each IP family; its .1 is our own',
      },
      {
        name: 'local-net',
        kind: 'prefix',
        many: true,
        value: 'PREFIX',
        help: 'what may send from the local side; default: everything but encoding networks',
      },
      { name: 'tun-name', kind: 'text', standard: 'ipref0', value: 'NAME', help: 'name of the TUN device' },
    ],
  },
  {
    title: 'Mappings',
    options: [
      { name: 'data', kind: 'text', standard: '/var/lib/ipref', value: 'FOLDER', help: 'folder of the mapping store' },
      {
        name: 'hosts',
        kind: 'text',
        standard: '/etc/hosts',
        value: 'FILE',
        help: 'hosts file with #= mappings; watched',
      },
      {
        name: 'static',
        kind: 'text',
        many: true,
        value: 'MAPPING',
        help: "a mapping that wins over every other: '10.1.0.9 = pub + 11'",
      },
      {
        name: 'max-mappings',
        kind: 'number',
        standard: 1_000_000,
        least: 1024,
        most: 16_000_000,
        value: 'NUMBER',
        help: 'mappings of each relation',
      },
      {
        name: 'mapping-quota-per-peer',
        kind: 'number',
        standard: 100_000,
        least: 1,
        most: 16_000_000,
        value: 'NUMBER',
        help: 'dynamic mappings that one peer may have',
      },
      {
        name: 'reference-length',
        kind: 'number',
        standard: 8,
        oneOf: ['4', '8'],
        value: '4|8',
        help: 'bytes of references that we allocate',
      },
      {
        name: 'mapper-socket',
        kind: 'text',
        standard: '/run/ipref/mapper.sock',
        value: 'PATH',
        help: 'socket for resolver and DNS agent',
      },
    ],
  },
  {
    title: 'Peers',
    options: [
      {
        name: 'peer',
        kind: 'peer',
        many: true,
        value: 'ADDRESS[:PORT]',
        help: 'a gateway that is always tracked and probed',
      },
      {
        name: 'remote-gateway-port',
        kind: 'number',
        standard: 1045,
        least: 1,
        most: 65535,
        value: 'PORT',
        help: 'port of a peer before one is learned',
      },
      {
        name: 'max-remote-gateways',
        kind: 'number',
        standard: 1024,
        least: 16,
        most: 65536,
        value: 'NUMBER',
        help: 'peers tracked; the least recently used unknown one goes',
      },
    ],
  },
  {
    title: 'What passes',
    options: [
      {
        name: 'open-hosts',
        kind: 'boolean',
        standard: false,
        help: 'let others begin connections to hosts that nobody published',
      },
      {
        name: 'gateway-open',
        kind: 'boolean',
        standard: false,
        help: "let everything reach the gateway's own reference, not only echo and ICMP errors",
      },
      { name: 'dec-ttl', kind: 'boolean', standard: true, help: 'decrement TTL and hop limit' },
      { name: 'clamp-mss', kind: 'boolean', standard: true, help: 'lower the MSS of TCP SYN packets to what fits' },
    ],
  },
  {
    title: 'Speed',
    options: [
      {
        name: 'tun-tso',
        kind: 'text',
        standard: 'auto',
        oneOf: ['auto', 'off'],
        value: 'auto|off',
        help: 'TCP super-packets on the TUN device',
      },
      {
        name: 'tun-uso',
        kind: 'text',
        standard: 'auto',
        oneOf: ['auto', 'off'],
        value: 'auto|off',
        help: 'UDP super-packets on the TUN device (Linux 6.2)',
      },
      {
        name: 'udp-gso',
        kind: 'text',
        standard: 'auto',
        oneOf: ['auto', 'off'],
        value: 'auto|off',
        help: 'segmentation of tunnel packets by the kernel',
      },
      {
        name: 'udp-gro',
        kind: 'text',
        standard: 'auto',
        oneOf: ['auto', 'off'],
        value: 'auto|off',
        help: 'merging of received tunnel packets by the kernel',
      },
    ],
  },
  { title: 'Resolver', options: resolverOptions(true) },
  { title: 'DNS agent', options: agentOptions(true) },
  { title: 'Zone server', options: zoneOptions },
  { title: 'Kubernetes', options: kubeOptions },
  {
    title: 'Running',
    options: [
      { name: 'config', kind: 'text', value: 'FILE', help: 'YAML file with these names; the command line wins' },
      {
        name: 'control-socket',
        kind: 'text',
        standard: '/run/ipref/control.sock',
        value: 'PATH',
        help: 'socket for ipref status and ipref trace',
      },
      {
        name: 'metrics-address',
        kind: 'text',
        standard: ':9145',
        value: 'ADDRESS:PORT',
        help: "where /metrics is served; 'off': nowhere",
      },
      {
        name: 'health-address',
        kind: 'text',
        standard: '127.0.0.1:9146',
        value: 'ADDRESS:PORT',
        help: "where /healthz and /readyz are served; 'off': nowhere",
      },
      {
        name: 'log-level',
        kind: 'text',
        standard: 'info',
        oneOf: ['debug', 'info', 'warn', 'error'],
        value: 'LEVEL',
        help: 'debug, info, warn or error',
      },
      {
        name: 'log-format',
        kind: 'text',
        standard: 'json',
        oneOf: ['json', 'text'],
        value: 'FORMAT',
        help: 'json, or text for a terminal',
      },
      { name: 'devmode', kind: 'boolean', standard: false, help: 'mapper and its socket only, no packets' },
      {
        name: 'check-config',
        kind: 'boolean',
        standard: false,
        help: 'say whether the configuration is right, and end',
      },
      {
        name: 'cleanup',
        kind: 'boolean',
        standard: false,
        help: 'remove TUN device, routes and nftables table, and end',
      },
      { name: 'version', kind: 'boolean', standard: false, help: 'print the version, and end' },
      { name: 'help', kind: 'boolean', standard: false, help: 'print this, and end' },
    ],
  },
  {
    title: 'Accepted for old unit files',
    options: [
      { name: 'max-buffers', kind: 'number', value: 'NUMBER', help: 'no effect: all packets share one memory' },
      {
        name: 'max-local-ips',
        kind: 'number',
        value: 'NUMBER',
        help: 'no effect: path MTU of hosts is kept with their mapping',
      },
      { name: 'debug', kind: 'boolean', standard: false, help: 'as -log-level debug' },
      { name: 'trace', kind: 'boolean', standard: false, help: 'as -log-level debug' },
      { name: 'ticks', kind: 'boolean', standard: false, help: 'no effect' },
      { name: 'time-stamps', kind: 'boolean', standard: false, help: 'no effect: every line has one' },
    ],
  },
]

export const gatewayProgram: Program = { command: 'ipref gateway', groups }

export const options = optionsOf(gatewayProgram)

export const gatewayIntro: readonly string[] = [
  'usage: ipref gateway -gateway ADDRESS [-encode-net PREFIX] [-hosts FILE] …',
  '',
  'Connects this network with other IPREF networks: sends what goes to an encoded address through',
  'the tunnel (UDP port 1045), and hands what comes out of it to the hosts of this network.',
  '',
  '  ipref gateway -gateway 198.51.100.1 -hosts /etc/hosts',
  '  ipref gateway -gateway 198.51.100.1 -resolver-listen 10.1.0.1 -resolver-upstream 192.0.2.53',
]
