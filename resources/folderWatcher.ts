/**
 * Says when something in a set of folders may have changed. The kernel's watches are quick but miss things, and there may be none left: whoever uses this
 * looks by itself now and then too.
 */
import { type FSWatcher, watch } from 'node:fs'

export class FolderWatcher {
  readonly #watchers = new Map<string, FSWatcher>()

  /** Exactly these folders from now on; each is told the name of what changed in it, or nothing. */
  set(wanted: ReadonlyMap<string, (name: string) => void>): void {
    for (const [folder, watcher] of this.#watchers) {
      if (wanted.has(folder)) continue
      watcher.close()
      this.#watchers.delete(folder)
    }
    for (const [folder, onEvent] of wanted) if (!this.#watchers.has(folder)) this.#add(folder, onEvent)
  }

  #add(folder: string, onEvent: (name: string) => void): void {
    try {
      const watcher = watch(folder, (event, name) => {
        // the folder itself was moved or removed: the next `set` begins anew
        if (event === 'rename' && name === null) this.#drop(folder, watcher)
        onEvent(name ?? '')
      })
      watcher.on('error', () => this.#drop(folder, watcher))
      this.#watchers.set(folder, watcher)
    } catch {
      // gone, or no watches left
    }
  }

  #drop(folder: string, watcher: FSWatcher): void {
    watcher.close()
    if (this.#watchers.get(folder) === watcher) this.#watchers.delete(folder)
  }

  close(): void {
    this.set(new Map())
  }
}
