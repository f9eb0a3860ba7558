/**
 * Access to an API server for apiClient.ts: credentials as they are now, and connections that are made with them and kept.
 *
 *   read at the start ─► used ─ refused (401, TLS) ─► read again, and connections that are idle are dropped when TLS settings changed
 *                         └ the token of a service account: its file is read every minute, for it is renewed before it expires
 *
 * Credentials are read by a program of their own (kubeCredentials.ts), at the start and when they are refused.
 */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { Agent as PlainAgent } from 'node:http'
import { Agent as TlsAgent } from 'node:https'
import { join } from 'node:path'
import type { ApiAccess, ApiPorts } from './apiClient.ts'
import type { CredentialAnswer, CredentialSettings, KubeCredentials } from './kubeCredentials.ts'

const TOKEN_AGE_MS = 60_000
/** login programs may ask servers of their own */
const PATIENCE_MS = 60_000
const keeping = { keepAlive: true, keepAliveMsecs: 30_000 }

export class KubeAccess implements ApiPorts {
  readonly #settings: CredentialSettings
  readonly #userAgent: string
  #current: Promise<ApiAccess> | undefined
  #agent: PlainAgent | undefined
  #material = ''
  #tokenFile: string | undefined
  #tokenAt = 0

  constructor(settings: CredentialSettings, userAgent: string) {
    this.#settings = settings
    this.#userAgent = userAgent
  }

  async access(): Promise<ApiAccess> {
    this.#current ??= this.#read()
    const reading = this.#current
    try {
      const access = await reading
      return this.#tokenFile === undefined ? access : this.#withToken(access, this.#tokenFile)
    } catch (error) {
      if (this.#current === reading) this.#current = undefined
      throw error
    }
  }

  renew(): void {
    this.#current = undefined
  }

  close(): void {
    this.#agent?.destroy()
  }

  async #read(): Promise<ApiAccess> {
    const credentials = await ask(this.#settings)
    const material = JSON.stringify([credentials.url, credentials.tls])
    if (!this.#agent || material !== this.#material) {
      this.#dropIdle()
      this.#agent = credentials.isProxied ? await proxyAgent(this.#settings) : agentOf(credentials)
      this.#material = material
    }
    this.#tokenFile = credentials.tokenFile
    this.#tokenAt = performance.now()
    const headers = { 'user-agent': this.#userAgent, ...credentials.headers }
    return { url: credentials.url, headers, agent: this.#agent }
  }

  #withToken(access: ApiAccess, file: string): ApiAccess {
    if (performance.now() - this.#tokenAt < TOKEN_AGE_MS) return access
    this.#tokenAt = performance.now()
    const authorization = `Bearer ${readFileSync(file, 'utf8').trim()}`
    const renewed = { ...access, headers: { ...access.headers, authorization } }
    this.#current = Promise.resolve(renewed)
    return renewed
  }

  /** Connections in use go on. */
  #dropIdle(): void {
    for (const sockets of Object.values(this.#agent?.freeSockets ?? {}))
      for (const socket of sockets ?? []) socket.destroy()
  }
}

function agentOf({ url, tls }: KubeCredentials): PlainAgent {
  if (url.startsWith('http:')) return new PlainAgent(keeping)
  const given = Object.entries(tls).map(([name, value]) => {
    const { base64 } = value as { base64?: string }
    return [name, base64 === undefined ? value : Buffer.from(base64, 'base64')]
  })
  return new TlsAgent({ ...keeping, ...Object.fromEntries(given) })
}

async function proxyAgent(settings: CredentialSettings): Promise<PlainAgent> {
  const { readCredentials } = await import('./kubeCredentials.ts')
  return (await readCredentials(settings)).agent
}

function ask(settings: CredentialSettings): Promise<KubeCredentials> {
  const program = join(import.meta.dirname, 'kubeCredentials.ts')
  return new Promise((resolve, reject) => {
    const options = { timeout: PATIENCE_MS, maxBuffer: 16 << 20 }
    execFile(process.execPath, [program, JSON.stringify(settings)], options, (error, stdout, stderr) => {
      try {
        const answer = JSON.parse(stdout) as CredentialAnswer
        if ('problem' in answer) reject(new Error(answer.problem))
        else resolve(answer)
      } catch {
        reject(
          new Error(`the Kubernetes configuration cannot be read: ${stderr.trim() || error?.message || 'no answer'}`),
        )
      }
    })
  })
}
