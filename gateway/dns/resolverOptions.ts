/** The options of the resolver: of `ipref resolver` as they are, of `ipref gateway` with `resolver-` before them (spec/flags.md has their origin). */
import type { Option, OptionGroup, Program } from '../../runtime/settings.ts'

/** `inGateway`: mapper, families and encoding networks are known there. */
export function resolverOptions(inGateway: boolean): readonly Option[] {
  const prefix = inGateway ? 'resolver-' : ''
  const common: Option[] = [
    {
      name: 'listen',
      kind: 'text',
      many: true,
      ...(inGateway ? {} : { standard: '127.0.0.1' }),
      value: 'ADDRESS[:PORT]',
      help: inGateway
        ? 'answer DNS questions here, over UDP and TCP (port 1053); several with commas between; absent: no resolver'
        : 'where to answer, over UDP and TCP; port 1053 if none is given; several with commas between',
    },
    {
      name: 'upstream',
      kind: 'text',
      many: true,
      value: 'ADDRESS[:PORT]',
      help: 'server asked for AA records, or a file like /etc/resolv.conf that names them; the next one when one fails; default: the forwarders',
    },
    {
      name: 'forward',
      kind: 'text',
      many: true,
      value: 'ADDRESS[:PORT]',
      help: 'server that gets every question without an AA answer, or a file like /etc/resolv.conf; absent: SERVFAIL',
    },
    {
      name: 'domain',
      kind: 'text',
      many: true,
      standard: '.',
      value: 'DOMAIN',
      help: 'domain in which AA records are looked for',
    },
    { name: 'except', kind: 'text', many: true, value: 'DOMAIN', help: 'domain below one of them that is left alone' },
    {
      name: 'allow',
      kind: 'text',
      many: true,
      value: 'PREFIX',
      help: 'who may ask; default: loopback, link-local, private and unique local addresses',
    },
    {
      name: 'rate-limit',
      kind: 'number',
      standard: 100,
      least: 0,
      most: 1_000_000,
      value: 'NUMBER',
      help: 'answers a second to each network of askers outside private addresses; 0: no limit',
    },
    {
      name: 'cache-size',
      kind: 'number',
      standard: 65536,
      least: 0,
      most: 4_194_304,
      value: 'NUMBER',
      help: 'answers kept; 0: none',
    },
    {
      name: 'serve-stale',
      kind: 'number',
      standard: 0,
      least: 0,
      most: 86400,
      value: 'SECONDS',
      help: 'show an answer for so long after it ran out, when nothing better is to be had',
    },
    {
      name: 'deny-answer',
      kind: 'prefix',
      many: true,
      value: 'PREFIX',
      help: 'addresses that no forwarder may answer with (encoding networks; against rebinding)',
    },
    {
      name: 'gw-ipver',
      kind: 'text',
      ...(inGateway ? {} : { standard: '4' }),
      value: '4|6|4,6',
      help: `IP versions of remote gateways, best first${inGateway ? '; default: those of our own addresses' : ''}`,
    },
  ]
  const only: Option[] = inGateway
    ? [
        {
          name: 'shortcut',
          kind: 'boolean',
          standard: true,
          help: 'answer the native address for a name of our own network',
        },
      ]
    : [
        {
          name: 'ea-ipver',
          kind: 'text',
          standard: '4',
          value: '4|6|4,6',
          help: 'IP versions of the encoding networks',
        },
        {
          name: 'mapper',
          kind: 'text',
          standard: '/run/ipref/mapper.sock',
          value: 'PATH',
          help: 'mapper socket of the gateway',
        },
      ]
  return [...common, ...only].map(option => ({ ...option, name: prefix + option.name }))
}

const running: OptionGroup = {
  title: 'Running',
  options: [
    { name: 'config', kind: 'text', value: 'FILE', help: 'YAML file with these names; the command line wins' },
    {
      name: 'corefile',
      kind: 'text',
      value: 'FILE',
      help: 'take settings from a Corefile: ipref, forward, bind, log, errors, cache, file, transfer',
    },
    {
      name: 'control-socket',
      kind: 'text',
      standard: '/run/ipref/resolver.sock',
      value: 'PATH',
      help: "socket for ipref trace; 'off': none",
    },
    {
      name: 'metrics-address',
      kind: 'text',
      standard: 'off',
      value: 'ADDRESS:PORT',
      help: "where /metrics is served; 'off': nowhere",
    },
    {
      name: 'health-address',
      kind: 'text',
      standard: 'off',
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
    { name: 'check-config', kind: 'boolean', standard: false, help: 'say whether the configuration is right, and end' },
    { name: 'version', kind: 'boolean', standard: false, help: 'print the version, and end' },
    { name: 'help', kind: 'boolean', standard: false, help: 'print this, and end' },
  ],
}

export const resolverProgram: Program = {
  command: 'ipref resolver',
  groups: [{ title: 'Resolver', options: resolverOptions(false) }, running],
}

export const resolverIntro: readonly string[] = [
  'usage: ipref resolver -upstream ADDRESS [-forward ADDRESS] [-listen ADDRESS[:PORT]] [-mapper PATH] …',
  '',
  'Answers A and AAAA questions for names with AA records: looks these up at the upstream servers, asks the',
  'mapper of a gateway for the encoded addresses, and hands every other question to the forwarders.',
  '',
  '  ipref resolver -listen 10.1.0.1:53 -upstream 192.0.2.53 -forward 192.0.2.53',
]
