/**
 * All kinds of system calls of gateway/sys, each with an answer that only a right layout gives. A program of its own: the image has no test in it, and here it is
 * run by the Node of the image, of another architecture than the machine's. Needs a network namespace of its own, NET_ADMIN and /dev/net/tun.
 *
 *   node systemCalls.ts      one line of JSON for each: { "name": …, "found": … } or { "name": …, "failed": why }
 *
 * What qemu does not know is left out: rules and neighbours of rtnetlink, and netfilter's netlink (nft, connection tracking).
 */
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Arena } from '../../gateway/sys/arena.ts'
import { DatagramReceiver, DatagramSender, openDatagramSocket, portOf } from '../../gateway/sys/datagrams.ts'
import { Errno, VNET } from '../../gateway/sys/layouts.ts'
import { close, read, SysError, write } from '../../gateway/sys/libc.ts'
import { LockHeld, lockFolder } from '../../gateway/sys/lock.ts'
import { addAddress, addRoute, linkByName, listAddresses, lookUpRoute, setLink } from '../../gateway/sys/netlink.ts'
import { Poller } from '../../gateway/sys/poller.ts'
import { testOffloads } from '../../gateway/sys/selfTest.ts'
import { connectSeqpacket, dialSeqpacket, SeqpacketServer } from '../../gateway/sys/seqpacket.ts'
import { openTun, removeTun } from '../../gateway/sys/tun.ts'
import { drainErrorQueue, openTunnelSocket, sendDatagram, writeSockaddr } from '../../gateway/sys/udp.ts'
import { fold } from '../../ipref/checksum.ts'

const PATIENCE_MS = 60_000
const TUN = 'arm0'
const ours = Uint8Array.of(10, 9, 0, 1)
const theirs = Uint8Array.of(10, 9, 0, 2)
const loopback = Uint8Array.of(127, 0, 0, 1)
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
const folder = mkdtempSync(join(tmpdir(), 'ipref-calls-'))

async function until<T>(what: string, look: () => T | undefined | false): Promise<T> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; ) {
    const found = look()
    if (found) return found
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  throw new Error(`${what}: not within ${PATIENCE_MS / 1000} s`)
}

const calls: Record<string, () => unknown> = {
  'the machine': () => `${process.arch}, Node ${process.version}`,

  'an error has its number and name': () => {
    try {
      dialSeqpacket(join(folder, 'nobody'))
    } catch (error) {
      return error instanceof SysError && error.errno === Errno.ENOENT ? error.code : String(error)
    }
    return 'no error'
  },

  'a lock is held once': () => {
    const lock = lockFolder(folder)
    try {
      lockFolder(folder)
      return 'twice'
    } catch (error) {
      return error instanceof LockHeld ? 'held' : String(error)
    } finally {
      lock.release()
    }
  },

  'epoll tells which of many descriptors has a message': async () => {
    const poller = new Poller()
    const path = join(folder, 'socket')
    const answers: string[] = []
    let tooLong = 0
    const server = await SeqpacketServer.listen({
      path,
      mode: 0o600,
      maxClients: 20,
      maxMessage: 512,
      poller,
      onMessage: (connection, message) => connection.send(Buffer.from(`${Buffer.from(message)} to ${connection.id}`)),
      onTooLong: () => tooLong++,
    })
    const clients = Array.from({ length: 12 }, (_, i) =>
      connectSeqpacket({
        path,
        poller,
        most: 512,
        onMessage: message => (answers[i] = Buffer.from(message).toString()),
      }),
    )
    await until('twelve clients', () => server.clients === 12)
    for (const [i, client] of clients.entries()) client.send(Buffer.from(`from ${i}`))
    await until('twelve answers', () => answers.filter(Boolean).length === 12)
    clients[0]!.send(new Uint8Array(600))
    await until('a message cut', () => tooLong === 1)
    for (const client of clients) client.close()
    server.close()
    poller.close()
    return new Set(answers).size === 12 && answers.every((text, i) => text.startsWith(`from ${i} to `))
      ? '12'
      : answers.join(', ')
  },

  'batches of datagrams over IPv4 and IPv6 come whole, with their sender': async () => {
    const found: number[] = []
    for (const address of [loopback, loopback6]) {
      const arena = new Arena(1 << 20)
      const [from, to] = [openDatagramSocket(address, 0, 1 << 20), openDatagramSocket(address, 0, 1 << 20)]
      const [sender, receiver] = [new DatagramSender(arena, 32, 1024), new DatagramReceiver(arena, 32, 1024)]
      const name = new Uint8Array(28)
      writeSockaddr(new DataView(name.buffer), 0, address, portOf(to))
      for (let i = 0; i < 32; i++) {
        arena.bytes.fill(i, sender.start(), sender.start() + 10 + i)
        sender.pushTo(10 + i, name)
      }
      sender.flush(from)
      let count = 0
      await until('32 datagrams', () => {
        const got = receiver.receive(to)
        for (let i = 0; i < got; i++, count++) {
          const bytes = arena.bytes.subarray(receiver.start(i), receiver.start(i) + receiver.length(i))
          const isWhole = bytes.length === 10 + count && bytes.every(byte => byte === count)
          const isFrom = arena.view.getUint16(receiver.name(i) + 2) === portOf(from)
          if (isWhole && isFrom) found.push(count)
        }
        return count === 32
      })
      close(from)
      close(to)
    }
    return found.length
  },

  'an error of the network comes back with the address it is about': async () => {
    const probe = openDatagramSocket(loopback, 0, 1 << 16)
    const port = portOf(probe)
    close(probe)
    const { fd } = openTunnelSocket({ address: loopback, port: 0, gro: false })
    sendDatagram(fd, { address: loopback, port }, Uint8Array.of(1))
    const error = await until('an error', () => drainErrorQueue(fd)[0])
    close(fd)
    return `${error.errno} ${error.address.join('.')}`
  },

  'the sum in WebAssembly is that of the plain way': () => {
    const arena = new Arena(1 << 16)
    const at = arena.allocate(2000)
    for (let i = 0; i < 2000; i++) arena.bytes[at + i] = (i * 37) & 0xff
    for (const length of [0, 1, 2, 15, 16, 17, 63, 64, 65, 1499, 1500])
      if (fold(arena.sum(at, length)) !== fold(plainSum(arena.bytes.subarray(at, at + length)))) return length
    return 'same'
  },

  'a link, an address, a route are set and read back': () => {
    const { fd } = openTun({ name: TUN, offloads: { tso4: true, tso6: true, uso4: true, uso6: true } })
    close(fd)
    const index = linkByName(TUN)!.index
    setLink({ index, mtu: 1400, txqueuelen: 500, tunnelConf: true })
    setLink({ index, up: true })
    addAddress({ index, address: ours, length: 24 })
    addRoute({ destination: Uint8Array.of(10, 240, 0, 0), length: 12, interfaceIndex: index, mtu: 1300 })
    const link = linkByName(TUN)!
    const route = lookUpRoute(Uint8Array.of(10, 241, 2, 3))
    return [
      link.mtu,
      link.up,
      link.kind,
      link.rpFilter,
      listAddresses().some(one => one.index === index && one.address.join('.') === ours.join('.') && one.length === 24),
      route?.interfaceIndex === index,
      route?.mtu,
    ].join(' ')
  },

  'a packet comes out of the TUN device, and an answer goes in': async () => {
    const { fd } = openTun({ name: TUN, offloads: { tso4: false, tso6: false, uso4: false, uso6: false } })
    const socket = createSocket('udp4')
    const answer = new Promise<Buffer>(resolve => socket.once('message', resolve))
    await new Promise<void>(resolve => socket.bind(0, ours.join('.'), resolve))
    socket.send('ask', 7, theirs.join('.'))
    const arena = new Arena(1 << 17)
    const at = arena.allocate(65536)
    const packet = at + VNET.size
    const is = (offset: number, value: number) => arena.bytes[packet + offset] === value
    const length = await until('a packet', () => {
      const got = read(fd, arena.address(at), 65536)
      return got > VNET.size && is(0, 0x45) && is(9, 17) && got
    })
    // the same packet back, addresses and ports exchanged: all sums stay; the first byte of the payload is changed, which the sum must hear of
    const bytes = arena.bytes.subarray(packet, packet + length - VNET.size)
    const [source, destination] = [bytes.slice(12, 16), bytes.slice(16, 20)]
    const [from, to] = [bytes.slice(20, 22), bytes.slice(22, 24)]
    bytes.set([...destination, ...source, ...to, ...from], 12)
    bytes.set([0, 0], 26) // no UDP checksum
    bytes[28] = 'A'.charCodeAt(0)
    arena.bytes.fill(0, at, at + VNET.size)
    write(fd, arena.address(at), length)
    const text = (await answer).toString()
    socket.close()
    close(fd)
    removeTun(TUN)
    return text
  },

  'offloads of UDP, tried on the loopback device': () => {
    const { problems } = testOffloads()
    return Object.keys(problems).length === 0 ? 'all' : JSON.stringify(problems)
  },
}

function plainSum(bytes: Uint8Array): number {
  let sum = 0
  for (const [i, byte] of bytes.entries()) sum += i % 2 === 0 ? byte : byte << 8
  return sum
}

setLink({ index: linkByName('lo')!.index, up: true })
for (const [name, call] of Object.entries(calls)) {
  try {
    console.log(JSON.stringify({ name, found: String(await call()) }))
  } catch (error) {
    console.log(JSON.stringify({ name, failed: (error as Error).stack }))
  }
}
rmSync(folder, { recursive: true, force: true })
process.exit(0)
