/** Tables for a terminal: columns as wide as their widest cell, two spaces between, nothing behind the last. */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map(row => (row[i] ?? '').length)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd()
  return [line(head), ...rows.map(line)].join('\n')
}

export function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)}s`
  if (seconds < 7200) return `${Math.round(seconds / 60)}m`
  return seconds < 172_800 ? `${Math.round(seconds / 3600)}h` : `${Math.round(seconds / 86_400)}d`
}

export function quantity(value: number): string {
  const units = ['', 'k', 'M', 'G', 'T']
  let unit = 0
  while (value >= 10_000 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${Math.round(value)}${units[unit]}`
}
