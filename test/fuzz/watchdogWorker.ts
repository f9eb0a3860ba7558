/** The thread of the watchdog (watchdog.ts). */
import { writeSync } from 'node:fs'
import { workerData } from 'node:worker_threads'

const PATIENCE_S = 30
const HEAD = 16

const { shared, seed } = workerData as { shared: SharedArrayBuffer; seed: number }
const state = new Int32Array(shared, 0, 3)
let last = -1
let seconds = 0

setInterval(() => {
  const isSame = state[0] === 1 && state[1] === last
  last = state[1]!
  seconds = isSame ? seconds + 1 : 0
  if (seconds < PATIENCE_S) return
  const bytes = Buffer.from(new Uint8Array(shared, HEAD, state[2]!))
  writeSync(
    1,
    `PROBLEM one message takes for ever; repeat with --seed ${seed}\n        bytes ${bytes.toString('hex')}\n`,
  )
  writeSync(1, '0 passed, 1 failed, 0 skipped\n')
  process.kill(process.pid, 'SIGKILL')
}, 1000)
