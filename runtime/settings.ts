/**
 * Settings of a program: one table of options, from which the command line, the YAML file (`-config FILE`), the help text and the page of documentation
 * are made. All mistakes are collected, each with the flag, or file and line, and what would be right. The command line wins over the file.
 */
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'

export interface Option {
  readonly name: string
  readonly kind: 'text' | 'number' | 'boolean' | 'address' | 'prefix' | 'reference' | 'peer'
  /** may be given more than once */
  readonly many?: true
  readonly standard?: string | number | boolean
  readonly least?: number
  readonly most?: number
  readonly oneOf?: readonly string[]
  readonly value?: string
  readonly help: string
}

export interface OptionGroup {
  readonly title: string
  readonly options: readonly Option[]
}

export interface Program {
  /** `ipref gateway` */
  readonly command: string
  readonly groups: readonly OptionGroup[]
  /** plain arguments, such as the sources of the DNS agent; absent: none are taken */
  readonly takes?: string
}

export interface Given {
  text: string
  /** `-name`, or `file:line: name` */
  where: string
}

export interface ParsedSettings {
  given: Map<string, Given[]>
  rest: string[]
}

export function optionsOf(program: Program): Map<string, Option> {
  return new Map(program.groups.flatMap(group => group.options.map(option => [option.name, option] as const)))
}

/** `readFile` throws for a file that cannot be read. */
export function parseSettings(
  program: Program,
  argv: readonly string[],
  readFile: (path: string) => string,
  problems: string[],
): ParsedSettings {
  const parser = new Parser(program, problems)
  const given = parser.parseArguments(argv)
  const file = given.get('config')?.[0]?.text
  if (file !== undefined && !isOn(given.get('help'))) parser.mergeFile(file, readFile, given)
  return { given, rest: parser.rest }
}

export function isOn(values: readonly Given[] | undefined): boolean {
  return values?.at(-1)?.text === 'true'
}

class Parser {
  readonly #program: Program
  readonly #options: ReadonlyMap<string, Option>
  readonly #problems: string[]
  readonly rest: string[] = []

  constructor(program: Program, problems: string[]) {
    this.#program = program
    this.#options = optionsOf(program)
    this.#problems = problems
  }

  parseArguments(argv: readonly string[]): Map<string, Given[]> {
    const { command, takes } = this.#program
    const given = new Map<string, Given[]>()
    for (let i = 0; i < argv.length; i++) {
      const argument = argv[i]!
      const match = /^--?([A-Za-z][\w-]*)(?:=(.*))?$/s.exec(argument)
      if (!match) {
        if (takes !== undefined && !argument.startsWith('-')) this.rest.push(argument)
        else this.#problems.push(`${argument}: flags begin with a dash; ${command} takes nothing else`)
        continue
      }
      const name = match[1] === 'h' ? 'help' : match[1]!
      const option = this.#options.get(name)
      if (!option) {
        this.#problems.push(this.#unknown(`-${name}`, name))
        continue
      }
      const isSwitch = option.kind === 'boolean'
      const value = match[2] ?? (isSwitch ? 'true' : argv[++i])
      if (value === undefined) this.#problems.push(`-${name}: a value is missing; write -${name} ${option.value}`)
      else this.#add(given, option, { text: value, where: `-${name}` })
    }
    return given
  }

  #add(given: Map<string, Given[]>, option: Option, value: Given): void {
    const before = given.get(option.name)
    if (!before) given.set(option.name, [value])
    else if (option.many) before.push(value)
    else this.#problems.push(`${value.where}: given more than once`)
  }

  #unknown(where: string, name: string): string {
    const near = [...this.#options.keys()]
      .map(known => ({ known, distance: distanceOf(known, name) }))
      .sort((a, b) => a.distance - b.distance)[0]
    return `${where}: unknown${near && near.distance <= 3 ? `; did you mean ${near.known}?` : `; ${this.#program.command} -help lists all`}`
  }

  // what the command line has not said
  mergeFile(file: string, readFile: (path: string) => string, given: Map<string, Given[]>): void {
    const problems = this.#problems
    let text: string
    try {
      text = readFile(file)
    } catch (error) {
      problems.push(`-config ${file}: cannot be read (${(error as NodeJS.ErrnoException).code ?? error})`)
      return
    }
    const lines = new LineCounter()
    const document = parseDocument(text, { lineCounter: lines })
    for (const error of document.errors)
      problems.push(`${file}:${error.linePos?.[0].line ?? 1}: ${error.message.split('\n')[0]}`)
    if (document.errors.length > 0 || document.contents === null) return
    if (!isMap(document.contents)) {
      problems.push(`${file}:1: expected names and values, such as\n    gateway: 198.51.100.1`)
      return
    }
    const lineOf = (node: unknown) => lines.linePos((node as { range?: [number] }).range?.[0] ?? 0).line
    const fromFile = new Map<string, Given[]>()
    for (const pair of document.contents.items) {
      const name = String(isScalar(pair.key) ? pair.key.value : pair.key)
      const where = `${file}:${lineOf(pair.key)}: ${name}`
      const option = this.#options.get(name)
      if (!option || name === 'config') {
        problems.push(this.#unknown(where, name))
        continue
      }
      const nodes = isSeq(pair.value) ? pair.value.items : [pair.value]
      if (isSeq(pair.value) && !option.many) problems.push(`${where}: one value, not a list`)
      for (const node of nodes) {
        if (!isScalar(node)) problems.push(`${where}: expected a plain value`)
        else this.#add(fromFile, option, { text: String(node.value), where })
      }
    }
    for (const [name, values] of fromFile) if (!given.has(name)) given.set(name, values)
  }
}

/** Levenshtein's. */
export function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
  }
  return row[b.length]!
}

/** Turns texts into values; every mistake becomes a problem. `prefix`: put before each name that is asked for. */
export class SettingsReader {
  readonly #options: ReadonlyMap<string, Option>
  readonly #given: ReadonlyMap<string, readonly Given[]>
  readonly problems: string[]
  readonly #prefix: string

  constructor(
    options: ReadonlyMap<string, Option>,
    given: ReadonlyMap<string, readonly Given[]>,
    problems: string[],
    prefix = '',
  ) {
    this.#options = options
    this.#given = given
    this.problems = problems
    this.#prefix = prefix
  }

  /** The same settings, of the part of a program whose options have this prefix. */
  part(prefix: string): SettingsReader {
    return new SettingsReader(this.#options, this.#given, this.problems, prefix)
  }

  /** `-name` as it is written here. */
  flag(name: string): string {
    return `-${this.#prefix}${name}`
  }

  problem(text: string): void {
    this.problems.push(text)
  }

  has(name: string): boolean {
    return this.#given.has(this.#prefix + name)
  }

  values(name: string): readonly Given[] {
    const given = this.#given.get(this.#prefix + name)
    if (given) return given
    const { standard } = this.#option(name)
    return standard === undefined ? [] : [{ text: String(standard), where: this.flag(name) }]
  }

  #option(name: string): Option {
    const option = this.#options.get(this.#prefix + name)
    if (!option) throw new Error(`no option ${this.#prefix}${name} in the table`)
    return option
  }

  /** What `parse` makes of each value; where that is undefined, a problem that says what was expected. */
  each<Value>(name: string, parse: (text: string) => Value | undefined, expected: string): Value[] {
    return this.values(name).flatMap(given => {
      const value = parse(given.text)
      if (value === undefined) this.problem(`${given.where}: ${given.text} is no ${expected}`)
      return value === undefined ? [] : [value]
    })
  }

  text(name: string): string {
    const given = this.values(name).at(-1)
    if (given?.text === '') this.problem(`${given.where}: must not be empty`)
    return given?.text ?? ''
  }

  choice(name: string): string {
    const given = this.values(name).at(-1)!
    const { oneOf } = this.#option(name)
    if (!oneOf!.includes(given.text)) this.problem(`${given.where}: ${given.text} is not one of ${oneOf!.join(', ')}`)
    return given.text
  }

  boolean(name: string): boolean {
    const given = this.values(name).at(-1)!
    if (given.text !== 'true' && given.text !== 'false')
      this.problem(`${given.where}: ${given.text} is neither true nor false`)
    return given.text === 'true'
  }

  number(name: string): number | undefined {
    const given = this.values(name).at(-1)
    if (!given) return undefined
    const { least = 0, most = Number.MAX_SAFE_INTEGER } = this.#option(name)
    const value = /^\d+$/.test(given.text) ? Number(given.text) : Number.NaN
    if (!(value >= least && value <= most))
      this.problem(`${given.where}: ${given.text} is no number from ${least} to ${most}`)
    return value
  }

  /** ADDRESS:PORT, [ADDRESS]:PORT, :PORT; `off` is undefined. */
  listen(name: string): { host: string; port: number } | undefined {
    const given = this.values(name).at(-1)!
    if (given.text === 'off') return undefined
    const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(given.text)
    const port = Number(match?.[3])
    if (!match || port > 65535)
      this.problem(`${given.where}: ${given.text} is no ADDRESS:PORT (127.0.0.1:9145, :9145, off)`)
    return { host: match?.[1] ?? match?.[2] ?? '', port }
  }
}

// ---- texts

const NAME_WIDTH = 36
const TEXT_WIDTH = 64

/** `intro`: usage and what the program does. */
export function helpText(program: Program, intro: readonly string[]): string {
  const lines = [...intro, '']
  for (const group of program.groups) {
    lines.push(`${group.title}:`)
    for (const option of group.options) lines.push(...helpLines(option))
    lines.push('')
  }
  return lines.join('\n')
}

function helpLines(option: Option): string[] {
  const name = `  -${option.name}${option.value ? ` ${option.value}` : ''}`
  const lines = wrap(`${option.help}${standardOf(option)}${option.many ? '; repeatable' : ''}`, TEXT_WIDTH)
  const indented = lines.map(line => `${' '.repeat(NAME_WIDTH)}${line}`)
  if (name.length >= NAME_WIDTH) return [name, ...indented]
  return [`${name.padEnd(NAME_WIDTH)}${lines[0]}`, ...indented.slice(1)]
}

function standardOf({ standard }: Option): string {
  return standard === undefined || standard === false ? '' : ` (${standard})`
}

function wrap(text: string, width: number): string[] {
  const lines = ['']
  for (const word of text.split(' ')) {
    if (lines.at(-1)!.length + word.length >= width) lines.push('')
    lines[lines.length - 1] += lines.at(-1) === '' ? word : ` ${word}`
  }
  return lines
}

/** The tables of a page of documentation. */
export function optionTables(program: Program): string[] {
  const lines: string[] = []
  for (const group of program.groups) {
    lines.push('', `### ${group.title}`, '', '| option | default | meaning |', '| --- | --- | --- |')
    for (const { name, value, standard, help, many } of group.options) {
      const shown = standard === undefined || standard === false ? '' : `\`${standard}\``
      lines.push(
        `| \`-${name}${value ? ` ${value.replaceAll('|', '\\|')}` : ''}\` | ${shown} | ${help}${many ? '; repeatable' : ''} |`,
      )
    }
  }
  return lines
}
