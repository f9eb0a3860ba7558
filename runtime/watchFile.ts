/**
 * Tells when a file may have changed. The folder is watched rather than the file, so that a file put in its place by rename (editors, ConfigMaps) is
 * seen; a slow poll covers what watching misses.
 */
import { statSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'

const SETTLE_MS = 50
const POLL_MS = 2000

/** The result ends it. */
export function watchFile(path: string, onChange: () => void): () => void {
  let settle: NodeJS.Timeout | undefined
  const soon = () => {
    clearTimeout(settle)
    settle = setTimeout(onChange, SETTLE_MS)
  }
  let stamp = stampOf(path)
  const poll = setInterval(() => {
    const now = stampOf(path)
    if (now !== stamp) soon()
    stamp = now
  }, POLL_MS)
  const watcher = watchFolder(dirname(path), name => {
    // a ConfigMap's files are links through `..data`
    if (name === null || name === basename(path) || name.startsWith('..')) soon()
  })
  return () => {
    clearInterval(poll)
    clearTimeout(settle)
    watcher?.close()
  }
}

function stampOf(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat ? `${stat.mtimeMs} ${stat.size} ${stat.ino}` : ''
}

function watchFolder(folder: string, onName: (name: string | null) => void): { close(): void } | undefined {
  try {
    const watcher = watch(folder, (_event, name) => onName(name))
    watcher.on('error', () => {})
    return watcher
  } catch {
    // no such folder yet: the poll finds it
    return undefined
  }
}
