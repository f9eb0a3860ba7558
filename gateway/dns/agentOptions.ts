/** The options of the DNS agent: of `ipref dns-agent` as they are, of `ipref gateway` with `dns-agent-` before them (spec/flags.md has their origin). */
import type { Option, OptionGroup, Program } from '../../runtime/settings.ts'

/** `inGateway`: mapper and families are known there, and the sources come as an option. */
export function agentOptions(inGateway: boolean): readonly Option[] {
  const prefix = inGateway ? 'dns-agent-' : ''
  const common: Option[] = [
    {
      name: 't',
      kind: 'number',
      standard: 59,
      least: 1,
      most: 10080,
      value: 'MINUTES',
      help: 'about how long between transfers from one server',
    },
    {
      name: 'key',
      kind: 'text',
      many: true,
      value: 'ALGORITHM:NAME:SECRET',
      help: 'TSIG key for transfers and notifications, secret in base64; @FILE reads one a line',
    },
    {
      name: 'resolver',
      kind: 'text',
      many: true,
      value: 'ADDRESS[:PORT]',
      help: 'who knows the addresses of local names; default: /etc/hosts and /etc/resolv.conf',
    },
    {
      name: 'notify-listen',
      kind: 'text',
      standard: 'off',
      value: 'ADDRESS:PORT',
      help: "where servers may say that a zone changed (NOTIFY); 'off': nowhere",
    },
    {
      name: 'hold-down',
      kind: 'number',
      standard: 60,
      least: 0,
      most: 86400,
      value: 'SECONDS',
      help: 'hosts that a zone loses stay for so long, until its servers have confirmed it; 0: they go at once',
    },
  ]
  const only: Option[] = inGateway
    ? []
    : [
        { name: 'ea-ipver', kind: 'text', standard: '4', value: '4|6|4,6', help: 'IP versions of local hosts' },
        { name: 'gw-ipver', kind: 'text', standard: '4', value: '4|6|4,6', help: 'IP versions of gateways' },
        {
          name: 'm',
          kind: 'text',
          standard: 'unix:///run/ipref/mapper.sock',
          value: 'PATH',
          help: 'mapper socket of the gateway',
        },
      ]
  const named = [...common, ...only].map(option => ({ ...option, name: prefix + option.name }))
  if (!inGateway) return named
  return [
    {
      name: 'dns-agent',
      kind: 'text',
      many: true,
      value: 'LOCAL:PUBLIC:SERVERS',
      help: 'publish the hosts with AA records in PUBLIC: LOCAL:PUBLIC:SERVER[:PORT],…; absent: no agent',
    },
    ...named,
  ]
}

const running: OptionGroup = {
  title: 'Running',
  options: [
    { name: 'config', kind: 'text', value: 'FILE', help: 'YAML file with these names; the command line wins' },
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
    {
      name: 'metrics-address',
      kind: 'text',
      standard: 'off',
      value: 'ADDRESS:PORT',
      help: "where /metrics is served; 'off': nowhere",
    },
    { name: 'devmode', kind: 'boolean', standard: false, help: 'no mapper: say what would be handed over' },
    { name: 'check-config', kind: 'boolean', standard: false, help: 'say whether the configuration is right, and end' },
    { name: 'version', kind: 'boolean', standard: false, help: 'print the version, and end' },
    { name: 'help', kind: 'boolean', standard: false, help: 'print this, and end' },
    { name: 'debug', kind: 'boolean', standard: false, help: 'as -log-level debug' },
    { name: 'time-stamps', kind: 'boolean', standard: false, help: 'no effect: every line has one' },
  ],
}

export const agentProgram: Program = {
  command: 'ipref dns-agent',
  groups: [{ title: 'DNS agent', options: agentOptions(false) }, running],
  takes: 'LOCAL:PUBLIC:SERVER[:PORT],…',
}

export const agentIntro: readonly string[] = [
  'usage: ipref dns-agent [FLAGS] LOCAL:PUBLIC:SERVER[:PORT],… …',
  '',
  'Transfers the zone PUBLIC from each server, matches every AA record at NAME.PUBLIC with the address of',
  'NAME.LOCAL, and hands the hosts to the mapper of a gateway when more than half of the servers agree.',
  '',
  '  ipref dns-agent internal:example.com:192.0.2.53,192.0.2.54',
]
