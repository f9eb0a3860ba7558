/**
 * The three networks of the demo. The drawing below is printed; the plans beside it are what is built.
 *
 * Networks 1 and 2 use the same addresses, down to the same host address on both sides; network 3 has IPv6 only, its gateway too.
 */
import type { NetworkPlan } from '../support/networks.ts'

export const drawing = `
   network 1                                                       network 2
   10.1.0.0/24                                                     10.1.0.0/24
  ┌───────────────────┐        ┌───────────────────────┐         ┌───────────────────┐
  │ anna  10.1.0.10   │        │       internet        │         │ bob   10.1.0.10   │
  │ alex  10.1.0.20   ├─ gw-1 ─┤ 198.51.100.1      .2  ├─ gw-2 ──┤                   │
  │  (not published)  │        │ 2001:db8:1::1         │         └───────────────────┘
  └───────────────────┘        │                       │         ┌───────────────────┐
                               │     2001:db8:3::1     ├─ gw-3 ──┤ carol fd03::10    │
   anna says 10.240.2.11       └───────────────────────┘         └───────────────────┘
   for bob, and 10.240.3.13                                        network 3
   for carol                                                       fd03::/64, IPv6 only
`

export const remote = {
  /** for hosts of network 1 */
  bob: '10.240.2.11',
  carol: '10.240.3.13',
  /** for hosts of network 2 */
  anna: '10.240.1.11',
  /** for hosts of network 3 */
  annaFrom3: 'fd24::1:11',
} as const

export const plans: readonly NetworkPlan[] = [
  {
    name: '1',
    lan: ['10.1.0.1/24'],
    hosts: { anna: ['10.1.0.10/24'], alex: ['10.1.0.20/24'] },
    mappings: [
      '10.1.0.10    anna        #= pub + 11',
      `${remote.bob}  bob.two     #= ext 198.51.100.2 + 11`,
      `${remote.carol}  carol.three #= ext 2001:db8:3::1 + 13`,
    ],
    flags: ['-gateway', '198.51.100.1', '-gateway', '2001:db8:1::1'],
  },
  {
    name: '2',
    lan: ['10.1.0.1/24'],
    hosts: { bob: ['10.1.0.10/24'] },
    mappings: ['10.1.0.10    bob         #= pub + 11', `${remote.anna}  anna.one    #= ext 198.51.100.1 + 11`],
    flags: ['-gateway', '198.51.100.2'],
  },
  {
    name: '3',
    lan: ['fd03::1/64'],
    hosts: { carol: ['fd03::10/64'] },
    mappings: ['fd03::10    carol       #= pub + 13', `${remote.annaFrom3}  anna.one    #= ext 2001:db8:1::1 + 11`],
    flags: ['-gateway', '2001:db8:3::1', '-encode-net', 'fd24::/64'],
  },
]

/** Addresses on the links between a gateway and the internet, by name of the network. */
export const links: Readonly<Record<string, { gateway: string[]; router: string[] }>> = {
  1: { gateway: ['198.51.100.1/31', '2001:db8:1::1/64'], router: ['198.51.100.0/31', '2001:db8:1::ff/64'] },
  2: { gateway: ['198.51.100.2/31'], router: ['198.51.100.3/31'] },
  3: { gateway: ['2001:db8:3::1/64'], router: ['2001:db8:3::ff/64'] },
}
