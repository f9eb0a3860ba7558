/**
 * Which set of hosts of a source is to be believed (hostile-input.md section 8). Pure: told what each server served and when, says which set is current.
 *
 *   - a set becomes current when more than half of all servers of the source report it; until then, and on any doubt, the last one stays
 *   - a server whose serial does not go forward, or whose zone changes under the same serial, is doubted: what it says counts when it still says so after
 *     the hold-down
 *   - a set that takes hosts away must be confirmed by a quorum after the hold-down. Where changes never end, that is the hold-down after the first of them;
 *     but a loss of more than half, or of all, must have lasted for all of it
 */
import { isNewerSerial } from '../../dns/message.ts'

/** Beyond two hold-downs: a loss that no quorum spoke of for so long is a new one. */
const LAPSE_S = 30

export interface Report {
  serial: number
  /** of the zone's AA records, before anything was looked up */
  zone: string
  /** of the set of hosts */
  hash: string
  hosts: number
}

interface ServerView {
  /** what counts */
  report: Report | undefined
  reportedAt: number
  doubtful: { report: Report; since: number } | undefined
}

export type Verdict = { what: 'taken' } | { what: 'doubted'; why: string; again: number }

export interface Decision {
  /** the hash that is current; undefined: none yet */
  current: string | undefined
  changed: boolean
  /** what is held down: when to look again, and at which servers */
  confirm: { at: number; servers: readonly number[] } | undefined
  why: string
}

export class Quorum {
  readonly #servers: ServerView[]
  readonly #holdDown: number
  readonly #lostBetween: (from: string, to: string) => number
  #current: { hash: string; hosts: number } | undefined
  /** since when every set that had a quorum took hosts away, and since when more than half of them */
  #lossSince: number | undefined
  #bigLossSince: number | undefined
  #lossSeenAt = Number.NEGATIVE_INFINITY

  /** `holdDown` in seconds, as all times here. `lostBetween`: how many hosts of one reported set another one lacks. */
  constructor(servers: number, holdDown: number, lostBetween: (from: string, to: string) => number) {
    this.#servers = Array.from({ length: servers }, () => ({
      report: undefined,
      reportedAt: Number.NEGATIVE_INFINITY,
      doubtful: undefined,
    }))
    this.#holdDown = holdDown
    this.#lostBetween = lostBetween
  }

  get needed(): number {
    return Math.floor(this.#servers.length / 2) + 1
  }

  get current(): string | undefined {
    return this.#current?.hash
  }

  /** A complete transfer from a server. */
  report(server: number, report: Report, now: number): Verdict {
    const view = this.#servers[server]!
    const why = view.report && doubtOf(view.report, report)
    if (why !== undefined) {
      const before = view.doubtful
      const isStill = before !== undefined && doubtOf(before.report, report) === undefined
      const since = isStill ? before.since : now
      view.doubtful = { report, since }
      if (!isStill || now - since < this.#holdDown) return { what: 'doubted', why, again: since + this.#holdDown }
    }
    view.doubtful = undefined
    view.report = report
    view.reportedAt = now
    return { what: 'taken' }
  }

  /** What is current now. */
  decide(now: number): Decision {
    const voters = new Map<string, number[]>()
    this.#servers.forEach(({ report }, server) => {
      if (report) voters.set(report.hash, [...(voters.get(report.hash) ?? []), server])
    })
    const winner = [...voters].find(([, servers]) => servers.length >= this.needed)
    if (!winner) {
      this.#bigLossSince = undefined
      return this.#stay(this.#noQuorum([...voters.values()].map(servers => servers.length)))
    }
    const [hash, servers] = winner
    const { hosts } = this.#servers[servers[0]!]!.report!
    if (hash === this.#current?.hash) return this.#take(hash, hosts)
    const lost = this.#current ? this.#lostBetween(this.#current.hash, hash) : 0
    const isBig = hosts === 0 || lost * 2 > (this.#current?.hosts ?? 0)
    if ((lost === 0 && !isBig) || this.#holdDown === 0) return this.#take(hash, hosts)
    if (this.#lossSince === undefined || now - this.#lossSeenAt > 2 * this.#holdDown + LAPSE_S) this.#lossSince = now
    this.#lossSeenAt = now
    this.#bigLossSince = isBig ? (this.#bigLossSince ?? now) : undefined
    const at = (this.#bigLossSince ?? this.#lossSince) + this.#holdDown
    const missing = servers.filter(server => this.#servers[server]!.reportedAt < at)
    if (servers.length - missing.length >= this.needed) return this.#take(hash, hosts)
    const what = this.#current ? `${lost} of ${this.#current.hosts} hosts are gone` : 'the zone has no hosts'
    return this.#stay(`${what}: to be confirmed`, { at, servers: missing })
  }

  #take(hash: string, hosts: number): Decision {
    const changed = hash !== this.#current?.hash
    this.#lossSince = undefined
    this.#bigLossSince = undefined
    this.#current = { hash, hosts }
    return { current: hash, changed, confirm: undefined, why: 'agreed' }
  }

  #stay(why: string, confirm?: Decision['confirm']): Decision {
    return { current: this.#current?.hash, changed: false, confirm, why }
  }

  #noQuorum(votes: readonly number[]): string {
    const known = votes.reduce((sum, count) => sum + count, 0)
    return known < this.needed
      ? `${known} of ${this.#servers.length} servers have reported, ${this.needed} are needed`
      : `the servers do not agree: ${votes.join(' against ')}`
  }
}

// half of all serials away is neither newer nor older (RFC 1982)
function doubtOf(last: Report, report: Report): string | undefined {
  if (last.serial === report.serial)
    return last.zone === report.zone ? undefined : `its zone changed and the serial ${report.serial} did not`
  return isNewerSerial(report.serial, last.serial)
    ? undefined
    : `its serial went back from ${last.serial} to ${report.serial}`
}
