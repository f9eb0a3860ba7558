/**
 * Both ends of the stream of start.ts. `send HOST`: a datagram every 5 ms, and a line for each answer; `answer`: every datagram goes back, and a line for each.
 *
 * A line is the moment of arrival by the monotonic clock, in microseconds: one clock for all processes of a machine.
 */
import { createSocket } from 'node:dgram'

const EVERY_MS = 5
const PORT = 7777
const [role, host = ''] = process.argv.slice(2)
const say = () => process.stdout.write(`${process.hrtime.bigint() / 1000n}\n`)
const socket = createSocket('udp4')
// while no gateway runs the kernel may refuse: the next one may pass
socket.on('error', () => {})
if (role === 'send') {
  socket.on('message', say)
  setInterval(() => socket.send('?', PORT, host, () => {}), EVERY_MS)
} else {
  socket.on('message', (_message, from) => {
    say()
    socket.send('!', from.port, from.address, () => {})
  })
  socket.bind(PORT)
}
