/** Rules that choose a routing table (ip-rule(8); linux/fib_rules.h): by the device that a packet came in by. */
import { AF_INET, AF_INET6, Errno } from './layouts.ts'
import { attribute, attributesOf, concat, NLM_F, request, textOf, tolerate, u32, u32Of } from './netlinkMessages.ts'

const RTM = { newRule: 32, delRule: 33, getRule: 34 } as const
const FRA = { iif: 3, priority: 6, table: 15, protocol: 21 } as const
const FR_ACT_TO_TABLE = 1
const RT_TABLE_COMPAT = 252

export interface Rule {
  family: 4 | 6
  priority: number
  /** '': any */
  incoming: string
  table: number
  /** who made it */
  protocol: number
}

// struct fib_rule_hdr { u8 family, dst_len, src_len, tos, table, res1, res2, action; u32 flags; }
function ruleBody(rule: Rule): Uint8Array {
  const header = new Uint8Array(12)
  header[0] = rule.family === 4 ? AF_INET : AF_INET6
  header[4] = rule.table < 256 ? rule.table : RT_TABLE_COMPAT
  header[7] = FR_ACT_TO_TABLE
  const incoming = Uint8Array.from(Buffer.from(`${rule.incoming}\0`))
  return concat(
    header,
    ...(rule.incoming === '' ? [] : [attribute(FRA.iif, incoming)]),
    attribute(FRA.priority, u32(rule.priority)),
    attribute(FRA.table, u32(rule.table)),
    attribute(FRA.protocol, Uint8Array.of(rule.protocol)),
  )
}

export function addRule(rule: Rule): void {
  const flags = NLM_F.ack | NLM_F.create | NLM_F.exclusive
  tolerate([Errno.EEXIST], () => request('add rule', { type: RTM.newRule, flags, body: ruleBody(rule) }))
}

export function removeRule(rule: Rule): void {
  tolerate([Errno.ENOENT], () => request('remove rule', { type: RTM.delRule, flags: NLM_F.ack, body: ruleBody(rule) }))
}

export function listRules(): Rule[] {
  const body = new Uint8Array(12)
  return request('list rules', { type: RTM.getRule, flags: NLM_F.dump, body }).flatMap(message => {
    const family = message.body[0]
    if (family !== AF_INET && family !== AF_INET6) return []
    const attributes = attributesOf(message.body, 12)
    return [
      {
        family: family === AF_INET ? (4 as const) : (6 as const),
        priority: u32Of(attributes.get(FRA.priority)) ?? 0,
        incoming: textOf(attributes.get(FRA.iif)),
        table: u32Of(attributes.get(FRA.table)) ?? message.body[4]!,
        protocol: attributes.get(FRA.protocol)?.[0] ?? 0,
      },
    ]
  })
}
