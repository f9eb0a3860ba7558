/** The log: pino, as JSON lines, or as text for a terminal. One line for each event that a person would act on. */
import pino, { type Logger } from 'pino'

export type { Logger } from 'pino'

export interface LogSettings {
  level: 'debug' | 'info' | 'warn' | 'error'
  format: 'json' | 'text'
}

export function createLogger(settings: LogSettings): Logger {
  const base = {
    level: settings.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (level: string) => ({ level }) },
  }
  if (settings.format === 'json') return pino(base, process.stderr)
  return pino(base, { write: line => void process.stderr.write(`${asText(JSON.parse(line))}\n`) })
}

function asText(entry: Record<string, unknown>): string {
  const { time, level, msg, component, ...fields } = entry
  const shown = Object.entries(fields).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  return [String(time).slice(11, 23), String(level).padEnd(5), component ? `${component}:` : '', msg, ...shown]
    .filter(part => part !== '')
    .join(' ')
}
