/**
 * gateway/sys/layouts.ts, line by line, against what C compilers of both architectures say of the headers of Linux and glibc.
 *
 *   layouts.ts ─► a C file with one marker for each value ─► gcc -S, of amd64 and of arm64 ─► values out of the assembly ─► compared
 *
 * Nothing compiled is run, so any machine can tell of the other architecture, if it has the compiler (test/support/prepare installs both).
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import * as layouts from '../../../gateway/sys/layouts.ts'

/** Debian has gcc of the machine itself under the full name too; clang and others do not matter here. */
const COMPILERS = { x64: 'x86_64-linux-gnu-gcc', arm64: 'aarch64-linux-gnu-gcc' } as const
type Architecture = keyof typeof COMPILERS

const HEADERS = [
  'stddef.h',
  'errno.h',
  'fcntl.h',
  'poll.h',
  'time.h',
  'sys/epoll.h',
  'sys/eventfd.h',
  'sys/file.h',
  'sys/ioctl.h',
  'sys/socket.h',
  'sys/time.h',
  'sys/uio.h',
  'sys/un.h',
  'netinet/in.h',
  'netinet/udp.h',
  'linux/errqueue.h',
  'linux/fib_rules.h',
  'linux/if.h',
  'linux/if_addr.h',
  'linux/if_link.h',
  'linux/if_tun.h',
  'linux/neighbour.h',
  'linux/netfilter/nfnetlink.h',
  'linux/netlink.h',
  'linux/rtnetlink.h',
  'linux/virtio_net.h',
]

/** Each key of an object of layouts.ts: where C says the same. */
const STRUCTS: Record<string, { type: string; members: Record<string, string> }> = {
  IOVEC: { type: 'struct iovec', members: { base: 'iov_base', length: 'iov_len' } },
  MSGHDR: {
    type: 'struct msghdr',
    members: {
      name: 'msg_name',
      nameLength: 'msg_namelen',
      iov: 'msg_iov',
      iovLength: 'msg_iovlen',
      control: 'msg_control',
      controlLength: 'msg_controllen',
      flags: 'msg_flags',
    },
  },
  MMSGHDR: { type: 'struct mmsghdr', members: { length: 'msg_len' } },
  CMSGHDR: { type: 'struct cmsghdr', members: { length: 'cmsg_len', level: 'cmsg_level', type: 'cmsg_type' } },
  POLLFD: { type: 'struct pollfd', members: { fd: 'fd', events: 'events', revents: 'revents' } },
  EPOLL_EVENT: { type: 'struct epoll_event', members: { events: 'events', data: 'data' } },
  TIMESPEC: { type: 'struct timespec', members: { seconds: 'tv_sec', fraction: 'tv_nsec' } },
  IFREQ: { type: 'struct ifreq', members: { name: 'ifr_name', flags: 'ifr_flags' } },
  EXTENDED_ERROR: { type: 'struct sock_extended_err', members: { errno: 'ee_errno', info: 'ee_info' } },
  VNET: {
    type: 'struct virtio_net_hdr',
    members: {
      flags: 'flags',
      gsoType: 'gso_type',
      headerLength: 'hdr_len',
      gsoSize: 'gso_size',
      checksumStart: 'csum_start',
      checksumOffset: 'csum_offset',
    },
  },
}

/** Objects of several things, and constants whose names differ; '' is in no header for programs, and not compared. */
const EXPRESSIONS: Record<string, string> = {
  'SOCKADDR.size4': 'sizeof(struct sockaddr_in)',
  'SOCKADDR.size6': 'sizeof(struct sockaddr_in6)',
  'SOCKADDR.family': 'offsetof(struct sockaddr_in6, sin6_family)',
  'SOCKADDR.port': 'offsetof(struct sockaddr_in6, sin6_port)',
  'SOCKADDR.address4': 'offsetof(struct sockaddr_in, sin_addr)',
  'SOCKADDR.address6': 'offsetof(struct sockaddr_in6, sin6_addr)',
  'SOCKADDR_UN.size': 'sizeof(struct sockaddr_un)',
  'SOCKADDR_UN.path': 'offsetof(struct sockaddr_un, sun_path)',
  'SOCKADDR_UN.pathLength': 'sizeof(((struct sockaddr_un *)0)->sun_path)',
  'TUN_F.csum': 'TUN_F_CSUM',
  'TUN_F.tso4': 'TUN_F_TSO4',
  'TUN_F.tso6': 'TUN_F_TSO6',
  'TUN_F.tsoEcn': 'TUN_F_TSO_ECN',
  'TUN_F.uso4': 'TUN_F_USO4',
  'TUN_F.uso6': 'TUN_F_USO6',
  VNET_NEEDS_CHECKSUM: 'VIRTIO_NET_HDR_F_NEEDS_CSUM',
  PMTUDISC_PROBE: 'IP_PMTUDISC_PROBE',
  UDP_MAX_SEGMENTS: '',
}

/** Younger than the headers of some distributions. */
const YOUNG = ['TUN_F_USO4', 'TUN_F_USO6']

/** What other files of gateway/sys write as numbers: C of both architectures must agree with them as well. */
const ELSEWHERE: Record<string, number> = {
  'sizeof(void *)': 8,
  'sizeof(size_t)': 8,
  'sizeof(ssize_t)': 8,
  'sizeof(long)': 8,
  'sizeof(socklen_t)': 4,
  'sizeof(struct timeval)': 16,
  'CMSG_LEN(2)': layouts.CMSGHDR.size + 2,
  'CMSG_SPACE(2)': 24,
  'sizeof(struct nlmsghdr)': 16,
  'sizeof(struct nlattr)': 4,
  'sizeof(struct ifinfomsg)': 16,
  'sizeof(struct ifaddrmsg)': 8,
  'sizeof(struct rtmsg)': 12,
  'sizeof(struct ndmsg)': 12,
  'offsetof(struct ndmsg, ndm_state)': 8,
  'sizeof(struct fib_rule_hdr)': 12,
  'sizeof(struct nfgenmsg)': 4,
  __BYTE_ORDER__: 1234,
}

interface Value {
  name: string
  expression: string
  ours: number
}

function valuesOf(architecture: Architecture): Value[] {
  const all = { ...layouts, EPOLL_EVENT: layouts.epollEvent(architecture) }
  const values = Object.entries(all).flatMap(([name, value]): Value[] => {
    if (typeof value === 'function') return []
    if (typeof value === 'number') return [{ name, expression: EXPRESSIONS[name] ?? name, ours: value }]
    return Object.entries(value).map(([key, ours]) => ({ name: `${name}.${key}`, expression: inC(name, key), ours }))
  })
  const known = values.filter(({ expression }) => expression !== '')
  return [...known, ...Object.entries(ELSEWHERE).map(([name, ours]) => ({ name, expression: name, ours }))]
}

function inC(name: string, key: string): string {
  const struct = STRUCTS[name]
  if (name === 'Errno') return key
  if (!struct) return EXPRESSIONS[`${name}.${key}`] ?? `no_C_name_for_${name}_${key}`
  return key === 'size' ? `sizeof(${struct.type})` : `offsetof(${struct.type}, ${struct.members[key]})`
}

const folder = mkdtempSync(join(tmpdir(), 'ipref-layouts-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function marker(i: number, expression: string): string {
  const line = `asm volatile("VALUE ${i} %c0" : : "i"((long)(${expression})));`
  return YOUNG.includes(expression) ? `\n#ifdef ${expression}\n${line}\n#endif\n` : line
}

function compiled(architecture: Architecture, values: readonly Value[]): number[] {
  const source = join(folder, `${architecture}.c`)
  const lines = values.map(({ expression }, i) => `  ${marker(i, expression)}`)
  const includes = HEADERS.map(header => `#include <${header}>`)
  writeFileSync(source, ['#define _GNU_SOURCE', ...includes, 'void values(void) {', ...lines, '}', ''].join('\n'))
  const argv = ['-S', '-O1', '-w', '-o', '-', source]
  const { status, stdout, stderr } = spawnSync(COMPILERS[architecture], argv, { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  const found = new Map(
    [...stdout.matchAll(/^\s*VALUE (\d+) (-?\d+)$/gm)].map(match => [Number(match[1]), Number(match[2])]),
  )
  return values.map((_, i) => found.get(i) ?? (YOUNG.includes(values[i]!.expression) ? values[i]!.ours : Number.NaN))
}

describe.each(Object.keys(COMPILERS) as Architecture[])('layouts of Linux on %s', architecture => {
  const compiler = COMPILERS[architecture]
  const isHere = spawnSync(compiler, ['--version']).status === 0
  it.skipIf(!isHere)(`are what its C compiler says${isHere ? '' : ` (skipped: ${compiler} is not installed)`}`, () => {
    const values = valuesOf(architecture)
    const says = compiled(architecture, values)
    const pairs = (of: (i: number) => number) => Object.fromEntries(values.map(({ name }, i) => [name, of(i)]))
    expect(values.length).toBeGreaterThan(150)
    expect(pairs(i => values[i]!.ours)).toEqual(pairs(i => says[i]!))
  })
})

it('only struct epoll_event differs', () => {
  const differing = valuesOf('x64').filter(({ ours }, i) => ours !== valuesOf('arm64')[i]!.ours)
  expect(differing.map(({ name }) => name)).toEqual(['EPOLL_EVENT.size', 'EPOLL_EVENT.data'])
})
