/**
 * Requests to an API server: one at a time with bounded attempts, or a stream for a watch. Answers become objects, or a StoreError by their HTTP status alone.
 *
 *   request ── 2xx ──────────────────────────────► the object
 *              ├─ 401 ─────────────────────────────► credentials read again, once more at once
 *              ├─ 429, 5xx, no answer ─────────────► again after Retry-After, or back-off with jitter; at last Unavailable
 *              └─ anything else ───────────────────► StoreError
 *
 * Node's own client makes the requests: connections are kept and used again, each watch has its own, and HTTP/1.1 keeps one silent connection
 * from holding up the others. How to reach the server and who we are comes from `ApiAccess`.
 */
import { type IncomingMessage, type Agent as PlainAgent, request as plainRequest } from 'node:http'
import { request as tlsRequest } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { StoreError, type StoreFault } from './store.ts'

export interface ApiAccess {
  /** of the server, without a slash at its end */
  url: string
  headers: Readonly<Record<string, string>>
  /** with TLS settings and connections that are kept */
  agent: PlainAgent
}

export interface ApiPorts {
  access(): Promise<ApiAccess>
  /** What `access` said last was refused: read it again. */
  renew(): void
}

export interface ApiTimes {
  /** of one attempt, until the whole answer is in */
  requestMs: number
  attempts: number
  firstBackoffMs: number
  lastBackoffMs: number
  /** a server that wants more patience than this is taken for unavailable */
  longestRetryAfterMs: number
}

export const apiTimes: ApiTimes = {
  requestMs: 30_000,
  attempts: 5,
  firstBackoffMs: 200,
  lastBackoffMs: 5000,
  longestRetryAfterMs: 10_000,
}

export interface ApiRequest {
  /** for counters and messages */
  verb: string
  kind: string
  /** what it is about, for messages */
  name: string
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** with query */
  path: string
  body?: unknown
  contentType?: string
  signal?: AbortSignal
}

/** A `Status` of the API, as far as we look at it. */
interface ApiStatus {
  kind?: string
  message?: string
  reason?: string
  details?: { name?: string; causes?: { reason?: string; message?: string }[] }
}

export class ApiError extends StoreError {
  readonly retryAfterMs: number | undefined
  /** The object is missing, not the kind. */
  readonly isObjectMissing: boolean
  /** The server may have done what was asked. */
  readonly isAmbiguous: boolean

  constructor(
    code: StoreFault,
    message: string,
    more: {
      status?: number
      cause?: unknown
      retryAfterMs?: number | undefined
      isObjectMissing?: boolean
      isAmbiguous?: boolean
    },
  ) {
    super(code, message, more)
    this.retryAfterMs = more.retryAfterMs
    this.isObjectMissing = more.isObjectMissing ?? false
    this.isAmbiguous = more.isAmbiguous ?? false
  }
}

export interface Answer<Value> {
  value: Value
  /** an attempt before may have been carried out */
  wasAmbiguous: boolean
}

export class ApiClient {
  readonly #ports: ApiPorts
  readonly #times: ApiTimes
  readonly requests = new Map<string, number>()

  constructor(ports: ApiPorts, times: ApiTimes) {
    this.#ports = ports
    this.#times = times
  }

  async request<Value>(request: ApiRequest): Promise<Answer<Value>> {
    let wasAmbiguous = false
    for (let attempt = 1; ; attempt++) {
      try {
        return { value: await this.#attempt<Value>(request), wasAmbiguous }
      } catch (error) {
        if (!(error instanceof ApiError)) throw error
        const { retryAfterMs = 0 } = error
        const isLast = attempt >= this.#times.attempts || retryAfterMs > this.#times.longestRetryAfterMs
        // what the last attempt says of an object may be the work of an attempt before
        if (!isPassing(error) && wasAmbiguous) throw asAmbiguous(error)
        if (!isPassing(error) || isLast) throw error
        wasAmbiguous ||= error.isAmbiguous
        await sleep(Math.max(retryAfterMs, this.backoffMs(attempt)), undefined, signalOf(request.signal))
      }
    }
  }

  /** Of the attempt after `failures`; half of it is jitter. */
  backoffMs(failures: number): number {
    const { firstBackoffMs, lastBackoffMs } = this.#times
    return Math.min(lastBackoffMs, firstBackoffMs * 2 ** Math.min(failures - 1, 20)) * (0.5 + Math.random() / 2)
  }

  /** The body of an answer, as it comes; one attempt. The caller ends it with `signal`. */
  stream(request: ApiRequest & { signal: AbortSignal }): Promise<IncomingMessage> {
    return this.#withCredentials(request, () => this.#send(request))
  }

  #attempt<Value>(request: ApiRequest): Promise<Value> {
    return this.#withCredentials(request, async () => {
      const timeout = AbortSignal.timeout(this.#times.requestMs)
      const signal = request.signal ? AbortSignal.any([request.signal, timeout]) : timeout
      const response = await this.#send({ ...request, signal })
      try {
        return JSON.parse(await readText(response)) as Value
      } catch (error) {
        throw failed(request, `the answer is cut or no JSON: ${reasonOf(error)}`, error)
      }
    })
  }

  async #withCredentials<Value>(request: ApiRequest, send: () => Promise<Value>): Promise<Value> {
    try {
      return await send()
    } catch (error) {
      const isRefused = error instanceof ApiError && (error.status === 401 || isTlsFault(error.cause))
      if (!isRefused || request.signal?.aborted) throw error
      this.#ports.renew()
      return send()
    }
  }

  async #send(request: ApiRequest): Promise<IncomingMessage> {
    let response: IncomingMessage
    try {
      response = await connect(await this.#ports.access(), request, this.#times.requestMs)
    } catch (error) {
      if (request.signal?.aborted && !isTimeout(request.signal.reason)) throw request.signal.reason
      this.#count(request, 'none')
      throw failed(request, `no answer: ${reasonOf(request.signal?.aborted ? request.signal.reason : error)}`, error)
    }
    const status = response.statusCode!
    this.#count(request, String(status))
    if (status >= 200 && status < 300) return response
    const text = await readText(response).catch(error => {
      // what is missing may say which of two things the status means
      throw failed(request, `the answer is cut (${status})`, error)
    })
    throw refused(request, status, response.headers['retry-after'], text)
  }

  #count({ verb, kind }: ApiRequest, code: string): void {
    const name = `${verb} ${kind} ${code}`
    this.requests.set(name, (this.requests.get(name) ?? 0) + 1)
  }
}

function signalOf(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal ? { signal } : {}
}

/** Resolves with the head of the answer. */
function connect(access: ApiAccess, request: ApiRequest, headMs: number): Promise<IncomingMessage> {
  const { method, body, signal, contentType = 'application/json' } = request
  const text = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
  const url = new URL(access.url + request.path)
  const send = url.protocol === 'http:' ? plainRequest : tlsRequest
  return new Promise((resolve, reject) => {
    const headers: Record<string, string> = { accept: 'application/json', ...access.headers }
    if (text) Object.assign(headers, { 'content-type': contentType, 'content-length': String(text.length) })
    const outgoing = send(url, { method, headers, agent: access.agent, ...signalOf(signal) })
    const timer = setTimeout(() => outgoing.destroy(new Error(`nothing in ${headMs} ms`)), headMs)
    outgoing.once('error', error => {
      clearTimeout(timer)
      reject(error)
    })
    outgoing.once('response', response => {
      clearTimeout(timer)
      resolve(response)
    })
    outgoing.end(text)
  })
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

// ---- faults

function describe({ verb, kind, name }: ApiRequest): string {
  return `${verb} ${kind}${name === '' ? '' : ` ${name}`}`
}

function failed(request: ApiRequest, reason: string, cause: unknown): ApiError {
  const isUnsent = (cause as NodeJS.ErrnoException)?.code === 'ECONNREFUSED'
  return new ApiError('Unavailable', `${describe(request)}: ${reason}`, { cause, isAmbiguous: !isUnsent })
}

function refused(request: ApiRequest, status: number, retryAfter: string | undefined, text: string): ApiError {
  const said = statusOf(text)
  const isObjectMissing = status === 404 && said.details?.name !== undefined
  const seconds = Number(retryAfter)
  return new ApiError(
    faultOf(request, status, said, isObjectMissing),
    `${describe(request)}: ${said.message ?? (text.slice(0, 200).trim() || 'refused')} (${status})`,
    {
      status,
      isObjectMissing,
      retryAfterMs: retryAfter !== undefined && seconds >= 0 ? seconds * 1000 : undefined,
      isAmbiguous: status >= 500 && status !== 503,
    },
  )
}

function faultOf(request: ApiRequest, status: number, said: ApiStatus, isObjectMissing: boolean): StoreFault {
  switch (status) {
    case 401:
    case 403:
      return 'Forbidden'
    case 404:
      return isObjectMissing ? 'NotFound' : 'NoSuchKind'
    case 409:
      // a quota that changed meanwhile is a conflict too
      return request.method === 'POST' && said.reason !== 'Conflict' ? 'AlreadyExists' : 'Conflict'
    case 408:
    case 410:
    case 429:
      return 'Unavailable'
    default:
      return status >= 500 ? 'Unavailable' : 'Invalid'
  }
}

function statusOf(text: string): ApiStatus {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as ApiStatus) : {}
  } catch {
    return {}
  }
}

function asAmbiguous(error: ApiError): ApiError {
  const { code, message, status, isObjectMissing } = error
  return new ApiError(code, message, { ...(status && { status }), isObjectMissing, isAmbiguous: true })
}

/** Worth another attempt of the same request. A list that went on for too long (410) is not: it begins anew. */
function isPassing(error: ApiError): boolean {
  return error.code === 'Unavailable' && error.status !== 410
}

function isTimeout(reason: unknown): boolean {
  return (reason as Error)?.name === 'TimeoutError'
}

function isTlsFault(cause: unknown): boolean {
  return /^(ERR_SSL|ERR_TLS|CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO)/.test((cause as NodeJS.ErrnoException)?.code ?? '')
}

export function reasonOf(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException
  return message || code || String(error)
}
