/**
 * Baseline N: a gateway with one packet for each call, as Node offers it: the TUN device by fs.read and fs.write, UDP by dgram. The same
 * encap and decap as ours, so that only the way packets come and go is compared. Static mappings alone; for the bench.
 *
 *   naive.ts TUN BIND PEER ENCODE-NET OWN-HOST OWN-REFERENCE REMOTE-REFERENCE ENCODED
 */
import { createSocket } from 'node:dgram'
import { read, writeSync } from 'node:fs'
import { ownEncodedOf } from '../../gateway/config.ts'
import { configureDevice } from '../../gateway/device.ts'
import { VNET } from '../../gateway/sys/layouts.ts'
import { fcntl } from '../../gateway/sys/libc.ts'
import { openTun } from '../../gateway/sys/tun.ts'
import { parseAddress, parsePrefix } from '../../ipref/address.ts'
import { addressWords, ForwardBench, settingsFor } from '../support/forwardBench.ts'

const PORT = 1046
const MTU = 1464
const F_SETFL = 4
const O_RDWR = 2
const [tunName = '', bind = '', peer = '', encodeNet = '', host = '', ours = '', theirs = '', encoded = ''] =
  process.argv.slice(2)

const tun = openTun({ name: tunName, offloads: { tso4: false, tso6: false, uso4: false, uso6: false } })
// reads wait in libuv's thread pool, as a stream over a device does
fcntl(tun.fd, F_SETFL, O_RDWR)
const network = parsePrefix(encodeNet)!
configureDevice({ name: tunName, mtu: MTU, ownEncoded: [ownEncodedOf(network)], encodingNetworks: [network] })
const bench = new ForwardBench(
  settingsFor({ encodeNets: [encodeNet], contexts: [bind], change: { decrementTtl: true, tunMtu: MTU } }),
)
bench.addOurs(host, BigInt(ours))
bench.addTheirs(encoded, peer, BigInt(theirs))
const socket = createSocket({
  type: parseAddress(bind)!.length === 4 ? 'udp4' : 'udp6',
  recvBufferSize: 4 << 20,
  sendBufferSize: 4 << 20,
})

function emit(): void {
  for (const { to, bytes } of bench.take()) {
    if (to === 'tunnel') socket.send(bytes, PORT, peer)
    else writeSync(tun.fd, Buffer.concat([Buffer.alloc(VNET.size), bytes]))
  }
}

function readNext(buffer: Buffer): void {
  read(tun.fd, buffer, 0, buffer.length, null, (error, length) => {
    if (error) return void setTimeout(readNext, 10, buffer)
    bench.placeUnguarded(buffer.subarray(VNET.size, length), packet =>
      bench.encap.encap(packet, length - VNET.size, false, 0, 0),
    )
    emit()
    readNext(buffer)
  })
}

socket.on('message', (message, from) => {
  const o = addressWords(from.address)
  bench.placeUnguarded(message, at => bench.decap.decap(at, message.length, o[0], o[1], o[2], o[3], from.port, 0))
  emit()
})
socket.bind(PORT, bind, () => {
  readNext(Buffer.alloc(65536 + VNET.size))
  console.log('ready')
})
