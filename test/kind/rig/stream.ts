/**
 * Packets that never stop, from a pod: what of them is lost, and for how long, when something in between breaks.
 *
 *   ping, in the network of a client pod, entered from its node: it needs no API server
 *   Stream.start ── mark() ── something breaks ── flow() since the mark ── stop()
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Client } from './pods.ts'
import { docker } from './programs.ts'

const EVERY_MS = 50
/** Two answers further apart than this are a gap. */
const GAP_MS = 4 * EVERY_MS

export interface Flow {
  sent: number
  lost: number
  /** from the last answer before the longest gap to the first after it; 0: there was none */
  gapMs: number
  /** from the mark to the first answer after the last gap; 0: there was none */
  recoveredMs: number
}

export class Stream {
  readonly #process: ChildProcess
  readonly #answers: { sequence: number; at: number }[] = []
  #mark = { at: performance.now(), sequence: 0 }
  #rest = ''

  private constructor(process: ChildProcess) {
    this.#process = process
    process.stdout!.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n')
      this.#rest = lines.pop() ?? ''
      for (const line of lines) this.#take(line)
    })
  }

  /** Resolves when an answer came. */
  static async start(client: Client, address: string): Promise<Stream> {
    const { node, pod } = client
    const find = `crictl inspect -o go-template --template '{{.info.pid}}' $(crictl ps -q --label io.kubernetes.pod.name=${pod})`
    const pid = await docker('exec', node, 'sh', '-c', find)
    // it ends with its standard input, that is, with us
    const line = `nsenter -t ${pid} -n ping -n -i ${EVERY_MS / 1000} ${address} & p=$!; cat >/dev/null; kill $p`
    const stream = new Stream(
      spawn('docker', ['exec', '--interactive', node, 'sh', '-c', line], { stdio: ['pipe', 'pipe', 'ignore'] }),
    )
    await stream.untilAnswers(60).catch(error => {
      stream.stop()
      throw error
    })
    return stream
  }

  /** What came before counts no more. */
  mark(): void {
    const last = this.#answers.at(-1)
    this.#answers.length = 0
    if (last) this.#answers.push(last)
    this.#mark = { at: performance.now(), sequence: last?.sequence ?? 0 }
  }

  /** An answer to a packet that was sent from now on. Throws after the time. */
  async untilAnswers(seconds: number): Promise<void> {
    const begun = performance.now()
    const before = this.#answers.length
    while (this.#answers.length === before) {
      if (performance.now() - begun > seconds * 1000) throw new Error(`no answer in ${seconds} s`)
      if (this.#process.exitCode !== null) throw new Error(`ping ended with ${this.#process.exitCode}`)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }

  /** Since the mark. */
  flow(): Flow {
    const answers = [...this.#answers].sort((a, b) => a.at - b.at)
    const sent = (answers.at(-1)?.sequence ?? this.#mark.sequence) - this.#mark.sequence
    const answered = new Set(answers.map(({ sequence }) => sequence).filter(one => one > this.#mark.sequence)).size
    let gapMs = 0
    let recoveredMs = 0
    for (const [i, { at, sequence }] of answers.entries()) {
      const before = answers[i - 1]
      // a machine that rests keeps answers for a while: only where packets were lost is it a gap
      if (!before || at - before.at < GAP_MS || sequence - before.sequence < 2) continue
      gapMs = Math.max(gapMs, at - before.at)
      recoveredMs = at - this.#mark.at
    }
    return { sent, lost: Math.max(0, sent - answered), gapMs: Math.round(gapMs), recoveredMs: Math.round(recoveredMs) }
  }

  stop(): void {
    this.#process.stdin?.end()
  }

  #take(line: string): void {
    const sequence = /icmp_seq=(\d+) ttl=/.exec(line)?.[1]
    if (sequence !== undefined) this.#answers.push({ sequence: Number(sequence), at: performance.now() })
  }
}

/** In words, for a line of the output. */
export function told({ sent, lost, gapMs, recoveredMs }: Flow): string {
  if (lost === 0) return `0 of ${sent} packets lost`
  const when = recoveredMs > 0 ? `; ${(recoveredMs / 1000).toFixed(1)} s after the fault all is well` : ''
  return `${lost} of ${sent} packets lost, longest gap ${(gapMs / 1000).toFixed(1)} s${when}`
}
