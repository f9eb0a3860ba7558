/**
 * Who may make networks of namespaces here, and how.
 *
 *   root ─────────────────────────────► netns.ts works as it is
 *   ordinary user ── reenter() ───────► the same program again, as root of a user namespace of its own:
 *
 *     this process (outside)            unshare (user, mount, network, process ids)          the program (inside)
 *          │  pipe, fd 3: end of file or any byte means stop ──────────────────────────────────────► │
 *          └─ removes the folder after it
 *
 * Inside, /run is a private tmpfs, so that `ip netns` can keep its names there. When the program inside ends, the kernel
 * ends everything else in its process-id namespace and all networks with it.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { accessSync, closeSync, constants, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { delimiter, join } from 'node:path'
import { LAB_FOLDER_VARIABLE, makeLabFolder, removeAbandonedLabs } from './netns.ts'

export type LabSupport = { how: 'root' | 'user-namespace' } | { how: 'none'; reason: string }

/** Debian packages of the programs that labs use. */
const PACKAGES: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  nft: 'nftables',
  ping: 'iputils-ping',
  traceroute: 'traceroute',
}
const STOP_FD = 3

const TRY_AS_ROOT = 'ip netns add "$1" && ip netns del "$1"'
const TRY_AS_USER = `
mount -t tmpfs tmpfs /run
ip netns add try
ip netns exec try ip tuntap add dev try mode tun
ip netns exec try nft add table ip try
`
const ENTER = 'mount -t tmpfs tmpfs /run && exec "$@"'
const UNSHARE = ['unshare', '--user', '--map-root-user', '--net', '--mount', '--propagation', 'private']

/** Finds out by trying. Also puts the folders of system programs on the path, where an ordinary user may not have them. */
export function labSupport(): LabSupport {
  completePath()
  if (process.platform !== 'linux') return { how: 'none', reason: 'network namespaces need Linux' }
  const missing = Object.keys(PACKAGES).filter(program => !isOnPath(program))
  if (missing.length > 0) return { how: 'none', reason: missingPrograms(missing) }
  const tunProblem = tunDeviceProblem()
  if (tunProblem) return { how: 'none', reason: tunProblem }
  const asRoot =
    process.getuid?.() === 0 ? failureOf(['sh', '-c', TRY_AS_ROOT, 'sh', `ipref-try-${process.pid}`]) : 'not root'
  if (!asRoot) return { how: 'root' }
  const asUser = failureOf([...UNSHARE, 'sh', '-ec', TRY_AS_USER])
  if (!asUser) return { how: 'user-namespace' }
  return {
    how: 'none',
    reason: `no right to make network namespaces: ${asRoot}; with a user namespace: ${asUser}${hint()}`,
  }
}

/** True in the program that reenter started. */
export function isInsideUserNamespace(): boolean {
  return process.env[LAB_FOLDER_VARIABLE] !== undefined
}

/** Runs this program again as root of a user namespace; resolves to its exit code. */
export async function reenter(): Promise<number> {
  removeAbandonedLabs()
  const folder = makeLabFolder()
  const program = [process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const [unshare = '', ...options] = [...UNSHARE, '--pid', '--fork', '--mount-proc', '--kill-child=KILL']
  const child = spawn(unshare, [...options, 'sh', '-c', ENTER, 'sh', ...program], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: { ...process.env, [LAB_FOLDER_VARIABLE]: folder },
  })
  writeFileSync(join(folder, 'unshare'), `${child.pid}`)
  // the signal is answered inside; outside we only wait for the end, so that the folder can be removed
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => tellToStop(child))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  return new Promise(resolve => {
    child.on('error', () => resolve(1))
    child.on('exit', code => resolve(code ?? 1))
  })
}

/** Inside: calls back when the outside wants us to stop, or is gone. */
export function onOutsideStop(stop: () => void): void {
  const pipe = new Socket({ fd: STOP_FD })
  pipe.on('data', stop)
  pipe.on('close', stop)
  pipe.on('error', stop)
  pipe.unref()
}

/** A shell line that runs "$@" where labs live: nothing for root, the namespaces of `unshare` for others. */
export function enterFromOutside(folder: string): string {
  if (!isInsideUserNamespace()) return ''
  const processIds = `--pid=/proc/$(cat ${folder}/unshare)/ns/pid_for_children`
  return `nsenter -t $(cat ${folder}/unshare) --user --mount --net ${processIds} --preserve-credentials `
}

function tellToStop(child: ChildProcess): void {
  const pipe = child.stdio[STOP_FD]
  if (pipe && 'write' in pipe && !pipe.destroyed) pipe.end('stop')
}

function completePath(): void {
  const folders = (process.env.PATH ?? '').split(delimiter)
  const more = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'].filter(folder => !folders.includes(folder))
  process.env.PATH = [...folders, ...more].join(delimiter)
}

function isOnPath(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function missingPrograms(missing: string[]): string {
  const packages = missing.map(program => PACKAGES[program]).join(' ')
  return `missing: ${missing.join(', ')}; on Debian or Ubuntu: apt-get install ${packages}`
}

function tunDeviceProblem(): string | undefined {
  try {
    closeSync(openSync('/dev/net/tun', 'r+'))
    return undefined
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    return code === 'ENOENT' || code === 'ENODEV'
      ? 'no TUN device: /dev/net/tun is not there (modprobe tun; in a container: --device /dev/net/tun)'
      : `/dev/net/tun cannot be opened for reading and writing (${code})`
  }
}

// what the attempt said on its last line; '' when it went well
function failureOf(argv: readonly string[]): string {
  const [program = '', ...args] = argv
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout: 60_000 })
  if (status === 0) return ''
  return error?.message ?? (stderr.trim().split('\n').at(-1) || `exit code ${status}`)
}

function hint(): string {
  try {
    const restricted = readFileSync('/proc/sys/kernel/apparmor_restrict_unprivileged_userns', 'utf8').trim() === '1'
    return restricted ? ' (kernel.apparmor_restrict_unprivileged_userns is 1: run as root)' : ''
  } catch {
    return ''
  }
}
