/**
 * A real API server for tests: etcd and kube-apiserver, with RBAC and controllers, and our CRDs in it.
 *
 *   KUBECONFIG            the server that it names, which cannot be restarted; one elsewhere only if that is allowed (givenServer.ts)
 *   KUBEBUILDER_ASSETS    one of our own, of the programs in that folder
 *   neither               one of our own, of the programs that `npm run setup:cluster` has built; nothing is built here
 *
 * A run of vitest has one server for all its files (apiServerSetup.ts); each file makes namespaces of its own. Tests that stop or restart a
 * server start one for themselves. Where there is none, the reason is returned, and the tests count as skipped.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { delimiter, join } from 'node:path'
import { refusalOfGiven } from './givenServer.ts'

const CLUSTER = join(import.meta.dirname, '../cluster')
const CRDS = join(import.meta.dirname, '../../crds')
const SHARED = 'IPREF_TEST_API_SERVER'

export interface ApiServer {
  /** path of a file that makes us its administrator */
  kubeconfig: string
  /** Ends kube-apiserver (`etcd`: both) and starts it again on the same port with the same data. `during`: while it is away. */
  restart(how?: { kill?: true; etcd?: true; during?: () => Promise<void> }): Promise<void>
  stop(): Promise<void>
}

export interface Missing {
  missing: string
}

export function isMissing(server: object): server is Missing {
  return 'missing' in server
}

/** The server of this run of vitest; outside of vitest, or of a run with servers, one of its own. */
export async function requireApiServer(): Promise<ApiServer | Missing> {
  const shared = sharedApiServer()
  if (isMissing(shared) && process.env[SHARED] === undefined) return startApiServer()
  if (isMissing(shared)) return shared
  return {
    ...shared,
    restart: () => Promise.reject(new Error('others use this server: start one of your own')),
    stop: async () => {},
  }
}

/** At once, for `describe.skipIf`. */
export function sharedApiServer(): { kubeconfig: string } | Missing {
  const text = process.env[SHARED]
  return text === undefined ? { missing: 'no API server was started for this run' } : JSON.parse(text)
}

export function shareApiServer(server: { kubeconfig: string } | Missing): void {
  process.env[SHARED] = JSON.stringify(isMissing(server) ? server : { kubeconfig: server.kubeconfig })
}

/** Whether a server of one's own can be had; the reason if not. For tests that restart it. */
export function ownApiServerProblem(): string | undefined {
  const shared = sharedApiServer()
  if (isMissing(shared)) return shared.missing
  return process.env.KUBECONFIG ? 'the server of KUBECONFIG is not ours to restart' : undefined
}

/** `flags` go to kube-apiserver. */
export async function startApiServer(
  settings: { name?: string; controllers?: 'none'; flags?: readonly string[] } = {},
): Promise<ApiServer | Missing> {
  const given = process.env.KUBECONFIG
  if (given && settings.name === undefined) {
    const kubeconfig = given.split(delimiter)[0]!
    const problem = refusalOfGiven(kubeconfig) ?? (await installCrds(kubeconfig))
    if (problem) return { missing: problem }
    const restart = () => Promise.reject(new Error('the server of KUBECONFIG is not ours to restart'))
    return { kubeconfig, restart, stop: async () => {} }
  }
  const name = `${settings.name ?? 'test'}-${process.pid}-${randomBytes(3).toString('hex')}`
  const argv = [...(settings.controllers === 'none' ? ['--no-controllers'] : []), name]
  const up = await script('api-up', [...argv, ...(settings.flags ? ['--', ...settings.flags] : [])])
  const guard = guardAgainstOurEnd(name)
  const stop = async () => {
    guard.kill()
    await script('api-down', [name])
  }
  if (up.code !== 0) {
    await stop()
    return { missing: `${reasonOf(up.errors)}; npm run setup:cluster sees to it` }
  }
  const kubeconfig = up.output.trim()
  const problem = await installCrds(kubeconfig)
  if (problem) {
    await stop()
    throw new Error(problem)
  }
  return {
    kubeconfig,
    stop,
    async restart({ kill, etcd, during } = {}) {
      const how = [...(kill ? ['--kill'] : []), ...(etcd ? ['--etcd'] : [])]
      await mustRun('api-restart', [...how, '--down', name])
      await during?.()
      await mustRun('api-restart', [name])
    },
  }
}

/** Without controllers, for one file of tests; throws where there is none, which `ownApiServerProblem` tells before. */
export async function startOwnApiServer(name: string): Promise<ApiServer> {
  const server = await startApiServer({ name, controllers: 'none' })
  if (isMissing(server)) throw new Error(server.missing)
  return server
}

/** Ends the server when this process was killed, and could not do so itself. */
function guardAgainstOurEnd(name: string): ChildProcess {
  const wait = `while kill -0 ${process.pid} 2>/dev/null; do sleep 2; done; exec bash "$0" "$1"`
  const argv = ['-c', wait, join(CLUSTER, 'api-down'), name]
  const guard = spawn('sh', argv, { detached: true, stdio: 'ignore' })
  guard.unref()
  return guard
}

/** The reason why not. */
async function installCrds(kubeconfig: string): Promise<string | undefined> {
  const tried = await kubectl(kubeconfig, ['apply', '--server-side', '--force-conflicts', '-f', CRDS])
  if (tried.code !== 0) return `our CRDs are refused: ${reasonOf(tried.errors)}`
  const waited = await kubectl(kubeconfig, [
    ...['wait', '--for=condition=Established', '--timeout=60s', '--recursive=false', '-f', CRDS],
  ])
  return waited.code === 0 ? undefined : `our CRDs are not served: ${reasonOf(waited.errors)}`
}

export interface Ran {
  code: number
  output: string
  errors: string
}

export async function kubectl(kubeconfig: string, argv: readonly string[], input = ''): Promise<Ran> {
  const tools = await script('install-tools', ['api'])
  const path = [tools.code === 0 ? tools.output.trim() : '', process.env.PATH].filter(Boolean).join(delimiter)
  return run('kubectl', ['--kubeconfig', kubeconfig, ...argv], { PATH: path }, input)
}

async function mustRun(name: string, argv: readonly string[]): Promise<void> {
  const { code, errors } = await script(name, argv)
  if (code !== 0) throw new Error(`${name} ${argv.join(' ')}: ${errors}`)
}

/** Tests neither build nor install: that takes minutes, and `npm test` has done it. */
function script(name: string, argv: readonly string[]): Promise<Ran> {
  return run('bash', [join(CLUSTER, name), ...argv], { IPREF_NO_BUILD: '1', IPREF_NO_INSTALL: '1' }, '')
}

function run(
  program: string,
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
  input: string,
): Promise<Ran> {
  return new Promise(resolve => {
    const child = spawn(program, argv, { env: { ...process.env, ...environment }, stdio: ['pipe', 'pipe', 'pipe'] })
    const texts = { output: '', errors: '' }
    child.stdout.setEncoding('utf8').on('data', text => {
      texts.output += text
    })
    child.stderr.setEncoding('utf8').on('data', text => {
      texts.errors += text
    })
    child.on('error', error => resolve({ code: 127, ...texts, errors: error.message }))
    child.on('close', code => resolve({ code: code ?? 1, ...texts }))
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })
}

function reasonOf(errors: string): string {
  return (errors.trimEnd().split('\n').at(-1) ?? '').replace(/^\S* ?error: /, '') || 'no reason given'
}
