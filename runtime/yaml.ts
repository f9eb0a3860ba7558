/**
 * YAML with places: what a text says, and where each part of it stands, for messages that name file, line and column.
 *
 * YAML 1.2: `yes` and `on` are texts. A text that cannot be read has problems and no values.
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseAllDocuments, stringify } from 'yaml'

export interface Place {
  line: number
  column: number
}

export interface YamlProblem extends Place {
  problem: string
}

export type YamlPath = readonly (string | number)[]

export interface YamlDocument {
  /** undefined where there are problems, and for a document that says nothing */
  value: unknown
  problems: YamlProblem[]
  /** Of the member; of the deepest one on the way to it that is there. */
  placeOf(path: YamlPath): Place
}

export function readYaml(text: string): YamlDocument[] {
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: true })
  if (!Array.isArray(documents)) return []
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  return documents.map(document => {
    const problems = document.errors.map(({ message, pos }) => ({
      ...placeAt(pos[0]),
      // the library's text, without the drawing below it and the place that we say ourselves
      problem: message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, ''),
    }))
    const root = document.contents as Node | null
    let value: unknown
    if (problems.length === 0 && root) {
      try {
        value = document.toJS({ maxAliasCount: 100 })
      } catch (error) {
        problems.push({ ...placeAt(root.range?.[0] ?? 0), problem: (error as Error).message })
      }
    }
    return { value, problems, placeOf: path => placeAt(offsetOf(root, path)) }
  })
}

function offsetOf(root: Node | null, path: YamlPath): number {
  let node: unknown = root
  let offset = root?.range?.[0] ?? 0
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => String(isScalar(key) ? key.value : key) === String(step))
      if (!pair) break
      offset = (pair.key as Node).range?.[0] ?? offset
      node = pair.value
    } else if (isSeq(node)) {
      node = node.items[Number(step)]
      if (node === undefined) break
      offset = (node as Node).range?.[0] ?? offset
    } else break
    if (isAlias(node)) break
  }
  return offset
}

export function writeYaml(value: unknown): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false })
}
