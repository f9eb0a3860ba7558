/**
 * Where peers are reached, across a restart of ours: the NAT in front of them was not started again, and its port is not known from anywhere else until the
 * peer speaks.
 *
 *   Peers.known() ──every 2 s, when it is another; once a minute anyhow──► file ──at start, unless it is too old──► Peers.adopt
 *
 * What is lost with a crash is found out again when the peer speaks, so nothing waits for the disk. A file that makes no sense is no file.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { type AddressWords, formatWords, parseAddress, wordsFromBytes } from '../../ipref/address.ts'
import type { KnownPeer, Peers } from './peers.ts'

const LOOK_MS = 2000
const REFRESH_S = 60
/** A port that was not used for longer is free to be another's (RFC 4787 section 4.3: five minutes), and what it was when we ended says nothing any more. */
const VOID_S = 360

interface Saved {
  /** seconds of the wall clock */
  savedAt: number
  peers: { address: string; port: number; mtu: number }[]
}

export class SavedPeers {
  readonly #file: string
  readonly #peers: Pick<Peers, 'known' | 'adopt'>
  readonly #unixNow: () => number
  #timer: NodeJS.Timeout | undefined
  #last = ''
  #savedAt = 0

  constructor(file: string, peers: Pick<Peers, 'known' | 'adopt'>, unixNow = () => Date.now() / 1000) {
    this.#file = file
    this.#peers = peers
    this.#unixNow = unixNow
  }

  start(): void {
    this.restore()
    this.#timer = setInterval(() => this.save(), LOOK_MS)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#savedAt = 0
    this.save()
  }

  restore(): void {
    for (const peer of this.#read()) this.#peers.adopt(peer)
  }

  #read(): KnownPeer[] {
    try {
      const { savedAt, peers } = JSON.parse(readFileSync(this.#file, 'utf8')) as Saved
      const age = this.#unixNow() - savedAt
      return age >= -REFRESH_S && age <= VOID_S ? peers.flatMap(checked) : []
    } catch {
      return []
    }
  }

  save(): void {
    const peers = [...this.#peers.known()].map(({ address, ...way }) => ({ address: formatWords(address), ...way }))
    const now = this.#unixNow()
    const text = JSON.stringify(peers)
    if (text === this.#last && now - this.#savedAt < REFRESH_S) return
    try {
      const saved: Saved = { savedAt: Math.floor(now), peers }
      writeFileSync(`${this.#file}.new`, JSON.stringify(saved), { mode: 0o640 })
      renameSync(`${this.#file}.new`, this.#file)
      this.#last = text
      this.#savedAt = now
    } catch {
      // a full disk: the store of mappings says so
    }
  }
}

function checked({ address, port, mtu }: Saved['peers'][number]): KnownPeer[] {
  const isNumber = (value: number, least: number) => Number.isInteger(value) && value >= least && value <= 65_535
  const bytes = typeof address === 'string' ? parseAddress(address) : undefined
  if (!bytes || !isNumber(port, 1) || !isNumber(mtu, 0)) return []
  const words: AddressWords = wordsFromBytes(bytes)
  return [{ address: words, port, mtu }]
}
