/** A way in steps, each right or wrong: what a trace is made of, and how the first thing that is wrong is told. */

export interface Step {
  what: string
  ok: boolean
  /** it works, and a person should look at it all the same */
  warns?: true
  detail: string
  /** how long was waited for it */
  ms?: number
  /** what to do about it, where it is wrong or to be looked at */
  fix?: string
}

/** What stands in the way, and what to do about it. */
export interface Hindrance {
  what: string
  fix: string
}

/** As one sentence, for logs and /readyz. */
export function hindranceText({ what, fix }: Hindrance): string {
  return `${what}; ${fix}`
}

export class Steps {
  readonly all: Step[] = []
  readonly #nowMs: () => number

  /** milliseconds, monotonic */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs
  }

  /** `since`: when it was begun, where somebody was waited for. */
  right(what: string, detail: string, since?: number): void {
    this.all.push({ what, ok: true, detail, ...this.#spent(since) })
  }

  wrong(what: string, detail: string, told: { fix: string; since?: number }): void {
    this.all.push({ what, ok: false, detail, fix: told.fix, ...this.#spent(told.since) })
  }

  doubtful(what: string, detail: string, told: { fix: string; since?: number }): void {
    this.all.push({ what, ok: true, warns: true, detail, fix: told.fix, ...this.#spent(told.since) })
  }

  #spent(since: number | undefined): { ms?: number } {
    return since === undefined ? {} : { ms: roundMs(this.#nowMs() - since) }
  }
}

export function roundMs(ms: number): number {
  return Math.round(ms * 10) / 10
}

/** The first thing that is wrong, and what to do about it; else, or before it, what `otherwise` says. */
export function verdictOf(steps: readonly Step[], otherwise: string): string {
  const wrong = steps.find(step => !step.ok)
  if (!wrong) return otherwise
  const first = `${wrong.what}: ${wrong.detail}${wrong.fix ? `\n→ ${wrong.fix}` : ''}`
  return otherwise === '' ? first : `${otherwise}\nbut ${first}`
}
