/**
 * Networks made of network namespaces: what the demo and the netns tests are built on.
 *
 *   openLab() ──► Lab ── add('alice') ──► Namespace ── run, start
 *                  ├──── connect(end, end)      a veth pair between two namespaces
 *                  └──── close()
 *
 * The namespaces of a lab are called ipref-XXXX-NAME with a random XXXX; its files are in one folder, ipref-lab-XXXX in the
 * system's folder for temporary files. A lab leaves nothing behind, however its process ends:
 *   1. close(), safe to repeat, and the same work again when the process exits;
 *   2. the janitor, a shell whose standard input is a pipe that only the owner holds: it reads end of file when the owner is
 *      gone (SIGKILL too), ends what runs in the namespaces and removes them and the folder;
 *   3. openLab removes labs whose owner does not live any more (somebody killed both).
 *
 * Needs the right to make network namespaces: root, or the inside of userNamespace.ts.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const FOLDER_PREFIX = 'ipref-lab-'
/** Set by userNamespace.ts: the folder it made, so that it can remove it when the inside was killed. */
export const LAB_FOLDER_VARIABLE = 'IPREF_LAB_FOLDER'

/** $1: prefix of the namespaces, $2: folder. Safe to repeat. */
const REMOVE_LAB = `
for namespace in $(ip netns list | cut -d' ' -f1 | grep "^$1-"); do
  pids=$(ip netns pids "$namespace")
  [ -z "$pids" ] || kill -KILL $pids 2>/dev/null
  ip netns del "$namespace"
done
rm -rf "$2"
`
const JANITOR = `trap '' INT TERM HUP; cat >/dev/null; ${REMOVE_LAB}`

/**
 * $1: a resolv.conf; the rest: a command, to which it is /etc/resolv.conf. `ip netns exec` has given it mounts of its own, which end with it. Where
 * /etc/resolv.conf is a link that leads nowhere, /run is private. Names are looked up in files and DNS, whatever the machine has beside.
 */
const WITH_NAMES = `set -e
conf=$1; shift
put() {
  over=$(readlink -m "$2")
  case $over in
    /run/*) [ -e "$over" ] || { mount -t tmpfs tmpfs /run; mkdir -p "\${over%/*}"; : >"$over"; } ;;
  esac
  mount --bind "$1" "$over"
}
[ ! -d /run/nscd ] || mount -t tmpfs tmpfs /run/nscd
[ ! -e /etc/nsswitch.conf ] || put "\${conf%/*}/nsswitch.conf" /etc/nsswitch.conf
put "$conf" /etc/resolv.conf
exec "$@"
`
const NSSWITCH = 'passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\n'

export interface Outcome {
  code: number
  stdout: string
  stderr: string
}

export interface RunOptions {
  input?: string
  timeoutMs?: number
}

/** A program that runs until it is told to stop; what it writes goes to a file. */
export interface Running {
  readonly pid: number
  readonly logFile: string
  /** exit code, or 128 + number of the signal */
  readonly exited: Promise<number>
  hasExited(): boolean
  log(): string
  /** Sends the signal, SIGKILL after the time given, and waits for the end. */
  stop(signal?: NodeJS.Signals, killAfterMs?: number): Promise<number>
}

/** One side of a link. Addresses are in CIDR form. */
export interface LinkEnd {
  in: Namespace
  device: string
  addresses: readonly string[]
}

export class Namespace {
  /** as `ip netns` knows it */
  readonly name: string
  readonly label: string
  readonly #lab: Lab
  #enter: readonly string[]

  constructor(lab: Lab, label: string) {
    this.#lab = lab
    this.label = label
    this.name = `${lab.prefix}-${label}`
    this.#enter = ['ip', 'netns', 'exec', this.name]
  }

  /** The words before a command that is to run in here. */
  get enter(): readonly string[] {
    return this.#enter
  }

  /** What runs in here from now on has these name servers, at port 53. */
  useNameServers(addresses: readonly string[]): void {
    const file = this.#lab.file(`${this.label}-resolv.conf`)
    const lines = [...addresses.map(address => `nameserver ${address}`), 'options timeout:2 attempts:3']
    writeFileSync(file, `${lines.join('\n')}\n`)
    this.#enter = ['ip', 'netns', 'exec', this.name, 'sh', this.#lab.withNames(), file]
  }

  /** Runs a program to its end. An exit code other than 0 is a result; a time-out gives code 124. */
  run(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    return runProgram([...this.#enter, ...argv], options)
  }

  /** As run, but an exit code other than 0 is an error. Resolves to what was printed. */
  async require(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    return requireSuccess(argv, await this.run(argv, options), this.label)
  }

  /** Lines for `ip -batch`: each one the words that would follow `ip`. */
  async ip(...lines: string[]): Promise<void> {
    await requireProgram(['ip', '-n', this.name, '-batch', '-'], { input: `${lines.join('\n')}\n` })
  }

  /** `ip -json WORDS`, parsed. */
  async ipJson(words: string): Promise<unknown> {
    return JSON.parse((await requireProgram(['ip', '-n', this.name, '-json', ...words.split(' ')])) || '[]')
  }

  /** Loads nftables rules in one transaction. */
  async nft(rules: string): Promise<void> {
    await this.require(['nft', '-f', '-'], { input: rules })
  }

  /** Settings below /proc/sys/net, as 'ipv4/ip_forward': 1. */
  async sysctl(settings: Readonly<Record<string, number | string>>): Promise<void> {
    const lines = Object.entries(settings).map(([key, value]) => `echo ${value} > /proc/sys/net/${key}`)
    await this.require(['sh', '-ec', lines.join('\n')])
  }

  /** Starts a program that is ended with the lab at the latest. */
  start(argv: readonly string[], options: { log: string; env?: NodeJS.ProcessEnv }): Running {
    return this.#lab.startProgram([...this.#enter, ...argv], options)
  }
}

export class Lab {
  /** ipref-XXXX */
  readonly prefix: string
  readonly folder: string
  readonly #janitor: ChildProcess
  readonly #running: Running[] = []
  readonly #onExit = () => removeLab(this.prefix, this.folder)
  #closed = false

  constructor(prefix: string, folder: string) {
    this.prefix = prefix
    this.folder = folder
    this.#janitor = spawn('sh', ['-c', JANITOR, 'janitor', prefix, folder], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    this.#janitor.on('error', () => {})
    this.#janitor.unref()
    process.on('exit', this.#onExit)
  }

  /** A new namespace: lo is up, IPv6 addresses are usable at once, strict reverse-path filter as many distributions have it. */
  async add(label: string, options: { forwards?: boolean } = {}): Promise<Namespace> {
    const namespace = new Namespace(this, label)
    await requireProgram(['ip', 'netns', 'add', namespace.name])
    await namespace.ip('link set lo up')
    const forwards = options.forwards ? 1 : 0
    await namespace.sysctl({
      'ipv4/ip_forward': forwards,
      'ipv4/conf/default/rp_filter': 1,
      'ipv6/conf/all/disable_ipv6': 0,
      'ipv6/conf/default/disable_ipv6': 0,
      'ipv6/conf/default/accept_dad': 0,
      'ipv6/conf/all/forwarding': forwards,
      'ipv6/conf/default/forwarding': forwards,
    })
    return namespace
  }

  async connect(one: LinkEnd, other: LinkEnd, options: { mtu?: number } = {}): Promise<void> {
    const mtu = options.mtu ?? 1500
    await one.in.ip(
      `link add ${one.device} mtu ${mtu} type veth peer name ${other.device} netns ${other.in.name} mtu ${mtu}`,
    )
    for (const end of [one, other]) {
      const addresses = end.addresses.map(a => `address add ${a} dev ${end.device}${a.includes(':') ? ' nodad' : ''}`)
      await end.in.ip(...addresses, `link set dev ${end.device} up`)
    }
  }

  /** Both ends of a link. */
  async setMtu(one: LinkEnd, other: LinkEnd, mtu: number): Promise<void> {
    for (const end of [one, other]) await end.in.ip(`link set dev ${end.device} mtu ${mtu}`)
  }

  file(name: string): string {
    return join(this.folder, name)
  }

  /** The script that runs a command with a resolv.conf of its own. */
  withNames(): string {
    const script = this.file('with-names')
    if (!existsSync(script)) {
      writeFileSync(this.file('nsswitch.conf'), NSSWITCH)
      writeFileSync(script, WITH_NAMES)
    }
    return script
  }

  startProgram(argv: readonly string[], options: { log: string; env?: NodeJS.ProcessEnv }): Running {
    const running = startProgram(argv, this.file(options.log), options.env)
    this.#running.push(running)
    return running
  }

  /** Ends every program, then removes namespaces and folder. Safe to repeat. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await Promise.all(this.#running.map(running => running.stop('SIGTERM', 2000)))
    removeLab(this.prefix, this.folder)
    process.off('exit', this.#onExit)
    this.#janitor.stdin?.end()
  }
}

/** Opens a lab with a name of its own, after removing those that nobody owns any more. */
export async function openLab(): Promise<Lab> {
  const inherited = process.env[LAB_FOLDER_VARIABLE]
  // process ids outside a user namespace cannot be judged from the inside
  if (inherited === undefined) removeAbandonedLabs()
  const folder = inherited ?? makeLabFolder()
  return new Lab(`ipref-${folder.slice(folder.lastIndexOf('-') + 1)}`, folder)
}

/** A folder that tells the next run who owns the lab. */
export function makeLabFolder(): string {
  for (;;) {
    const folder = join(tmpdir(), FOLDER_PREFIX + Math.random().toString(36).slice(2, 6).padEnd(4, '0'))
    try {
      mkdirSync(folder, { mode: 0o700 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue
      throw error
    }
    writeFileSync(join(folder, 'owner'), `${process.pid} ${startTimeOf(process.pid)}`)
    return folder
  }
}

/** Labs in the temporary folder, of this user, whose owner is dead. */
export function removeAbandonedLabs(): void {
  for (const name of readdirSync(tmpdir())) {
    if (!name.startsWith(FOLDER_PREFIX)) continue
    const folder = join(tmpdir(), name)
    if (isAbandoned(folder)) removeLab(`ipref-${name.slice(FOLDER_PREFIX.length)}`, folder)
  }
}

// a folder without an owner file is a lab that begins or ends at this moment, unless it is old
function isAbandoned(folder: string): boolean {
  try {
    if (statSync(folder).uid !== process.getuid?.()) return false
    const [pid, startTime] = readFileSync(join(folder, 'owner'), 'utf8').split(' ')
    return startTimeOf(Number(pid)) !== startTime
  } catch {
    const made = statSync(folder, { throwIfNoEntry: false })
    return made !== undefined && Date.now() - made.ctimeMs > 60_000
  }
}

// field 22 of /proc/PID/stat, counted behind the name in parentheses; '' when there is no such process
function startTimeOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return ''
  }
}

function removeLab(prefix: string, folder: string): void {
  spawnSync('sh', ['-c', REMOVE_LAB, 'sh', prefix, folder], { stdio: 'ignore' })
}

/** Runs a program in this process's own namespaces. */
export function runProgram(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const [program = '', ...args] = argv
  return new Promise(resolve => {
    const settings = { timeout: options.timeoutMs ?? 60_000, killSignal: 'SIGKILL', maxBuffer: 1 << 26 } as const
    const child = execFile(program, args, settings, (error, stdout, stderr) => {
      if (!error) return resolve({ code: 0, stdout, stderr })
      const timedOut = error.killed === true
      const code = typeof error.code === 'number' ? error.code : timedOut ? 124 : 127
      resolve({ code, stdout, stderr: stderr || (timedOut ? 'timed out' : error.message) })
    })
    // a program that ends without reading its input is not our failure
    child.stdin?.on('error', () => {})
    child.stdin?.end(options.input ?? '')
  })
}

export async function requireProgram(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  return requireSuccess(argv, await runProgram(argv, options), undefined)
}

function requireSuccess(argv: readonly string[], outcome: Outcome, where: string | undefined): string {
  if (outcome.code === 0) return outcome.stdout
  const said = (outcome.stderr.trim() || outcome.stdout.trim()).slice(-2000)
  throw new Error(`${where ? `in ${where}: ` : ''}${argv.join(' ')}: exit code ${outcome.code}: ${said}`)
}

function startProgram(argv: readonly string[], logFile: string, env: NodeJS.ProcessEnv | undefined): Running {
  const [program = '', ...args] = argv
  const log = openSync(logFile, 'a')
  const child = spawn(program, args, { stdio: ['ignore', log, log], env: { ...process.env, ...env } })
  closeSync(log)
  let ended = false
  const exited = new Promise<number>(resolve => {
    child.on('error', () => resolve(127))
    child.on('exit', (code, signal) => resolve(code ?? 128 + (signal === 'SIGKILL' ? 9 : 15)))
  }).finally(() => {
    ended = true
  })
  return {
    pid: child.pid ?? 0,
    logFile,
    exited,
    hasExited: () => ended,
    log: () => readFileSync(logFile, 'utf8'),
    async stop(signal = 'SIGTERM', killAfterMs = 30_000) {
      if (ended) return exited
      child.kill(signal)
      const timer = setTimeout(() => child.kill('SIGKILL'), killAfterMs)
      return exited.finally(() => clearTimeout(timer))
    },
  }
}

/** Asks again until the answer is not undefined (or false); an error that says what was awaited after the deadline. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  options: { withinMs?: number; everyMs?: number } = {},
): Promise<T> {
  const deadline = Date.now() + (options.withinMs ?? 60_000)
  let last: unknown
  for (;;) {
    try {
      const answer = await ask()
      if (answer !== undefined && answer !== false) return answer
      last = answer
    } catch (error) {
      last = error
    }
    if (Date.now() >= deadline) throw new Error(`${what}: not within the deadline; last: ${String(last)}`)
    await new Promise(resolve => setTimeout(resolve, options.everyMs ?? 50))
  }
}
