/**
 * Which set of hosts of a source is to be believed (hostile-input.md section 8). Pure: told what each server served and when, says which set is current.
 *
 *   - a set becomes current when more than half of all servers of the source report it; until then, and on any doubt, the last one stays
 *   - a server whose serial goes back, or whose zone changes under the same serial, is doubted: what it says counts when it says the same again after the
 *     hold-down
 *   - a set that loses more than half of the hosts, or is empty, must be confirmed by a quorum after the hold-down
 */
import { isNewerSerial } from '../../dns/message.ts'

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
  /** when to look again at what is held down; undefined: nothing is */
  confirmAt: number | undefined
  why: string
}

export class Quorum {
  readonly #servers: ServerView[]
  readonly #holdDown: number
  #current: { hash: string; hosts: number } | undefined
  #held: { hash: string; since: number } | undefined

  /** `holdDown` in seconds, as all times here */
  constructor(servers: number, holdDown: number) {
    this.#servers = Array.from({ length: servers }, () => ({
      report: undefined,
      reportedAt: Number.NEGATIVE_INFINITY,
      doubtful: undefined,
    }))
    this.#holdDown = holdDown
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
    const last = view.report
    const why =
      last && isNewerSerial(last.serial, report.serial)
        ? `its serial went back from ${last.serial} to ${report.serial}`
        : last && last.serial === report.serial && last.zone !== report.zone
          ? `its zone changed and the serial ${report.serial} did not`
          : undefined
    if (why !== undefined) {
      const same = view.doubtful?.report.serial === report.serial && view.doubtful.report.zone === report.zone
      const since = same ? view.doubtful!.since : now
      view.doubtful = { report, since }
      if (now - since < this.#holdDown || !same) return { what: 'doubted', why, again: since + this.#holdDown }
    }
    view.doubtful = undefined
    view.report = report
    view.reportedAt = now
    return { what: 'taken' }
  }

  /** What is current now. */
  decide(now: number): Decision {
    const counts = new Map<string, ServerView[]>()
    for (const view of this.#servers) {
      if (!view.report) continue
      const views = counts.get(view.report.hash) ?? []
      views.push(view)
      counts.set(view.report.hash, views)
    }
    const winner = [...counts].find(([, views]) => views.length >= this.needed)
    const stay = (why: string, confirmAt?: number): Decision => ({
      current: this.#current?.hash,
      changed: false,
      confirmAt,
      why,
    })
    if (!winner) {
      this.#held = undefined
      const known = [...counts.values()].reduce((sum, views) => sum + views.length, 0)
      return stay(
        known < this.needed
          ? `${known} of ${this.#servers.length} servers have reported, ${this.needed} are needed`
          : `the servers do not agree: ${[...counts.values()].map(views => views.length).join(' against ')}`,
      )
    }
    const [hash, views] = winner
    if (hash === this.#current?.hash) {
      this.#held = undefined
      return stay('agreed')
    }
    const hosts = views[0]!.report!.hosts
    if (hosts === 0 || hosts * 2 < (this.#current?.hosts ?? 0)) {
      if (this.#held?.hash !== hash) this.#held = { hash, since: now }
      const confirmAt = this.#held.since + this.#holdDown
      const confirmed = views.filter(view => view.reportedAt >= confirmAt).length
      if (confirmed < this.needed)
        return stay(`${hosts} hosts instead of ${this.#current?.hosts ?? 'unknown'}: to be confirmed`, confirmAt)
    }
    this.#held = undefined
    this.#current = { hash, hosts }
    return { current: hash, changed: true, confirmAt: undefined, why: 'agreed' }
  }
}
