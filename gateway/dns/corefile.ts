/**
 * Corefiles of deployed resolvers: server blocks with the plugins ipref, forward, bind, log, errors, cache, file and transfer of the documented examples. What
 * else stands there is named and refused, with its line: half of a configuration is worse than none.
 *
 *   example.com:53 {
 *       bind 10.1.0.1
 *       ipref { upstream 192.0.2.53  except internal.example.com }
 *       forward . 192.0.2.53
 *   }
 */
import { parseName } from '../../dns/name.ts'
import { formatHostPort } from '../../ipref/address.ts'
import type { Given } from '../../runtime/settings.ts'
import { parseEndpoint } from './endpoint.ts'

const DNS_PORT = 53
/** of blocks in blocks; three have a meaning */
const MOST_DEPTH = 10

export interface CorefileZone {
  origin: string
  file: string
  listen: string[]
  /** addresses or prefixes that may transfer it, and are told of changes */
  transferTo: string[]
}

export interface Corefile {
  given: Map<string, Given[]>
  zones: CorefileZone[]
  notes: string[]
}

interface Token {
  text: string
  line: number
}

interface Directive {
  words: Token[]
  block: Directive[] | undefined
}

const IPREF_WORDS: Readonly<Record<string, string>> = {
  except: 'except',
  upstream: 'upstream',
  'ea-ipver': 'ea-ipver',
  'gw-ipver': 'gw-ipver',
  mapper: 'mapper',
}

export function readCorefile(
  path: string,
  readFile: (path: string) => string,
  problems: string[],
): Corefile | undefined {
  let text: string
  try {
    text = readFile(path)
  } catch (error) {
    problems.push(`-corefile ${path}: cannot be read (${(error as NodeJS.ErrnoException).code ?? error})`)
    return undefined
  }
  const problem = (line: number, what: string) => void problems.push(`${path}:${line}: ${what}`)
  const blocks = parseDirectives(tokens(text, problem), problem)
  return new Translator(path, problem).translate(blocks)
}

// ---- text to directives

function tokens(text: string, problem: (line: number, what: string) => void): Token[] {
  const out: Token[] = []
  for (const [i, line] of text.split('\n').entries()) {
    const words = line.match(/#.*|"(?:[^"\\]|\\.)*"|[{}](?=\s|$)|[^\s"]+|"/g) ?? []
    for (const word of words) {
      if (word.startsWith('#')) break
      if (word === '"') problem(i + 1, 'a " without its end on the same line')
      out.push({ text: word.startsWith('"') ? word.slice(1, -1) : word, line: i + 1 })
    }
    out.push({ text: '\n', line: i + 1 })
  }
  return out
}

function parseDirectives(all: readonly Token[], problem: (line: number, what: string) => void): Directive[] {
  let at = 0
  // `depth` 0: outside of all blocks
  const block = (depth: number, opened: number): Directive[] => {
    const directives: Directive[] = []
    let words: Token[] = []
    const end = () => {
      if (words.length > 0) directives.push({ words, block: undefined })
      words = []
    }
    while (at < all.length) {
      const token = all[at++]!
      if (token.text === '\n') end()
      else if (token.text === '{') {
        if (depth === MOST_DEPTH) {
          problem(token.line, `this { is in ${MOST_DEPTH} others: the rest is not read`)
          at = all.length
          return directives
        }
        const inner = block(depth + 1, token.line)
        if (words.length === 0) problem(token.line, 'a { without a name before it')
        else directives.push({ words, block: inner })
        words = []
      } else if (token.text === '}') {
        end()
        if (depth > 0) return directives
        problem(token.line, 'a } without its {')
      } else words.push(token)
    }
    end()
    if (depth > 0) problem(opened, 'this { has no }')
    return directives
  }
  return block(0, 0)
}

// ---- directives to settings

class Translator {
  readonly #path: string
  readonly #problem: (line: number, what: string) => void
  readonly #result: Corefile = { given: new Map(), zones: [], notes: [] }
  #hasIpref = false

  constructor(path: string, problem: (line: number, what: string) => void) {
    this.#path = path
    this.#problem = problem
  }

  translate(blocks: readonly Directive[]): Corefile {
    for (const block of blocks) this.#server(block)
    if (!this.#hasIpref) this.#problem(1, 'no server block has ipref in it')
    return this.#result
  }

  #give(name: string, token: Token, text = token.text): void {
    const values = this.#result.given.get(name) ?? []
    values.push({ text, where: `${this.#path}:${token.line}: ${name}` })
    this.#result.given.set(name, values)
  }

  #server({ words, block }: Directive): void {
    const line = words[0]?.line ?? 1
    if (!block)
      return this.#problem(
        line,
        `${words[0]?.text}: expected a server block, NAME[:PORT] { … }; snippets and imports are not read`,
      )
    const keys = words.filter(word => word.text !== ',').map(word => this.#key(word))
    const binds = block.filter(d => d.words[0]!.text === 'bind').flatMap(d => d.words.slice(1))
    const isIpref = block.some(d => d.words[0]!.text === 'ipref')
    const ports = [...new Set(keys.map(key => key.port))]
    const listen = this.#addresses(binds.length > 0 ? binds : ['0.0.0.0', '::'].map(text => ({ text, line })), ports)
    if (isIpref && this.#hasIpref) return this.#problem(line, 'a second server block with ipref; there can be one')
    this.#hasIpref ||= isIpref
    if (isIpref) for (const address of listen) this.#give('listen', words[0]!, address)
    const transferTo: string[] = []
    for (const directive of block)
      if (directive.words[0]!.text === 'transfer') transferTo.push(...this.#transfer(directive))
    for (const directive of block) this.#plugin(directive, keys, { listen, isIpref, transferTo })
  }

  #addresses(hosts: readonly Token[], ports: readonly number[]): string[] {
    return hosts.flatMap(({ text, line }) =>
      ports.flatMap(port => {
        const address = formatHostPort(text, port)
        if (parseEndpoint(address, port)) return [address]
        this.#problem(line, `${address} is no address to listen on; interfaces are not looked up`)
        return []
      }),
    )
  }

  // NAME, NAME:PORT, dns://NAME, with a comma where there are several
  #key(word: Token): { name: string; port: number; token: Token } {
    const { text, line } = word
    const match = /^(?:dns:\/\/)?(.*?)(?::(\d+))?,?$/.exec(text)!
    const name = match[1] === '' ? '.' : match[1]!
    if (/^[a-z]+:\/\//.test(text) && !text.startsWith('dns://'))
      this.#problem(line, `${text}: only plain DNS is served`)
    else if (text.startsWith('(')) this.#problem(line, `${text}: snippets are not read`)
    else if (!isDomain(name))
      this.#problem(line, `${text} is no domain; write networks as names below in-addr.arpa or ip6.arpa`)
    return { name, port: Number(match[2] ?? DNS_PORT), token: word }
  }

  #plugin(
    directive: Directive,
    keys: readonly { name: string; token: Token }[],
    at: { listen: string[]; isIpref: boolean; transferTo: string[] },
  ): void {
    const [name, ...rest] = directive.words
    const line = name!.line
    switch (name!.text) {
      case 'bind':
      case 'transfer':
      case 'errors':
        return
      case 'log':
        return void this.#result.notes.push(`${this.#path}:${line}: log: questions are counted, not logged one by one`)
      case 'cache':
        return void this.#result.notes.push(`${this.#path}:${line}: cache: the resolver has its own (-cache-size)`)
      case 'ipref':
        return this.#ipref(directive, keys)
      case 'forward':
        return this.#forward(directive, at.isIpref)
      case 'file': {
        const [file, ...origins] = rest
        if (!file) return this.#problem(line, 'file: the path of the zone is missing')
        if (at.isIpref)
          return this.#problem(
            line,
            'file: put zones into a server block of their own, with another port or address than ipref',
          )
        const zones = origins.length > 0 ? origins.map(o => o.text) : keys.map(key => key.name)
        for (const origin of origins)
          if (!isDomain(origin.text)) this.#problem(line, `file: ${origin.text} is no domain`)
        for (const origin of zones)
          this.#result.zones.push({ origin, file: file.text, listen: at.listen, transferTo: at.transferTo })
        return
      }
      default:
        this.#problem(
          line,
          `${name!.text} is not known here; ipref, forward, bind, log, errors, cache, file and transfer are`,
        )
    }
  }

  #ipref({ words, block }: Directive, keys: readonly { name: string; token: Token }[]): void {
    const from = words.length > 1 ? words.slice(1) : keys.map(key => ({ ...key.token, text: key.name }))
    for (const domain of from) this.#give('domain', domain)
    for (const { words: inner } of block ?? []) {
      const option = IPREF_WORDS[inner[0]!.text]
      if (!option) {
        this.#problem(inner[0]!.line, `ipref: ${inner[0]!.text} is none of ${Object.keys(IPREF_WORDS).join(', ')}`)
        continue
      }
      if (inner.length < 2) this.#problem(inner[0]!.line, `ipref: ${inner[0]!.text}: a value is missing`)
      for (const value of inner.slice(1)) this.#give(option, value)
    }
  }

  #forward({ words, block }: Directive, isIpref: boolean): void {
    const line = words[0]!.line
    if (!isIpref) return this.#problem(line, 'forward: only in the server block with ipref')
    if (words.length < 3 || words[1]!.text !== '.')
      return this.#problem(line, 'forward: write `forward . ADDRESS…`; single domains are not forwarded elsewhere')
    for (const server of words.slice(2)) this.#give('forward', server)
    for (const { words: inner } of block ?? [])
      this.#result.notes.push(`${this.#path}:${inner[0]!.line}: forward: ${inner[0]!.text} has no effect`)
  }

  #transfer({ words, block }: Directive): string[] {
    const to: string[] = []
    for (const { words: inner } of block ?? []) {
      if (inner[0]!.text === 'to') to.push(...inner.slice(1).map(token => this.#transferTo(token)))
      else this.#problem(inner[0]!.line, `transfer: ${inner[0]!.text} is not known; write to ADDRESS…`)
    }
    if (to.length === 0) this.#problem(words[0]!.line, 'transfer: to whom is missing; write to ADDRESS…')
    return to
  }

  #transferTo({ text, line }: Token): string {
    if (text !== '*' && !parseEndpoint(text, DNS_PORT))
      this.#problem(line, `transfer: ${text} is no address; write ADDRESS, ADDRESS:PORT or *`)
    return text
  }
}

function isDomain(text: string): boolean {
  return !text.includes('/') && parseName(text) !== undefined
}
