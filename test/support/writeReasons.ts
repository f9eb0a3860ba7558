/** The tables of conditions and reasons in docs/operator.md, from the one list of them. */
import { type ReasonKind, type ReasonRow, reasons } from '../../resources/reasons.ts'

const BEGIN = '<!-- reasons: written by npm run docs -->'
const END = '<!-- end of reasons -->'
const kinds: readonly ReasonKind[] = ['IprefService', 'IprefPeer', 'IprefGateway']

/** The page with its tables as they should be. */
export function withReasons(page: string): string {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error(`the page has not both marks: ${BEGIN} and ${END}`)
  const tables = kinds.flatMap(kind =>
    tableOf(
      kind,
      reasons.filter(row => row.kind === kind),
    ),
  )
  return `${page.slice(0, begin + BEGIN.length)}\n${tables.join('\n')}\n${page.slice(end)}`
}

function tableOf(kind: ReasonKind, rows: readonly ReasonRow[]): string[] {
  return [
    '',
    `### ${kind}`,
    '',
    '| condition | reason | is | means | what to do |',
    '| --- | --- | --- | --- | --- |',
    ...rows.map(row => {
      const condition = row.condition
        .split(', ')
        .map(name => `\`${name}\``)
        .join(', ')
      return `| ${condition} | \`${row.reason}\` | ${row.status} | ${row.meaning} | ${row.fix ?? ''} |`
    }),
    '',
  ]
}
