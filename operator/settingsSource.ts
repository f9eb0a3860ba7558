/**
 * Where the settings of the platform are read (decisions.md 18): a ConfigMap in the operator's namespace, or a file in the folder of manifests. Watched;
 * settings with mistakes are reported, and those in force stay.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Config, parseConfig } from '../resources/config.ts'
import { CONFIG_FILE } from '../resources/manifests.ts'
import type { ResourceStore } from '../resources/store.ts'
import { watchFile } from '../runtime/watchFile.ts'

export const SETTINGS_KEY = 'config.yaml'

export interface SettingsSource {
  /** The settings in force at first; rejects with all that is wrong with them. */
  start(): Promise<Config>
  stop(): void
}

export interface SettingsEvents {
  onChange(config: Config): void
  /** What is wrong with what is there now; empty: nothing any more. */
  onProblems(problems: readonly string[]): void
}

/** Keeps the last good settings; says each thing once. */
class Keeper {
  readonly #events: SettingsEvents
  #text: string | undefined
  #hadProblems = false
  config: Config | undefined

  constructor(events: SettingsEvents) {
    this.#events = events
  }

  take(text: string, file: string): void {
    if (text === this.#text) return
    this.#text = text
    const parsed = parseConfig(text, file)
    if ('problems' in parsed) return this.fail(parsed.problems)
    if (this.#hadProblems) this.#events.onProblems([])
    this.#hadProblems = false
    const isFirst = this.config === undefined
    this.config = parsed.config
    if (!isFirst) this.#events.onChange(parsed.config)
  }

  fail(problems: readonly string[]): void {
    if (this.config === undefined) throw new Error(problems.join('\n'))
    this.#hadProblems = true
    this.#events.onProblems(problems)
  }
}

export function settingsOfConfigMap(
  store: ResourceStore,
  key: { namespace: string; name: string },
  events: SettingsEvents,
): SettingsSource {
  const keeper = new Keeper(events)
  const where = `ConfigMap ${key.namespace}/${key.name}, ${SETTINGS_KEY}`
  let stop = () => {}
  let first: unknown
  const take = (data: Record<string, string> | undefined) => {
    const text = data?.[SETTINGS_KEY]
    if (text === undefined)
      keeper.fail([`${where}: not there; the settings of the platform belong there (docs/resources.md)`])
    else keeper.take(text, where)
  }
  return {
    async start() {
      const watched = await store.watch(
        'ConfigMap',
        { namespace: key.namespace, fieldSelector: `metadata.name=${key.name}` },
        {
          onChange: ({ now }) => {
            try {
              take(now?.data)
            } catch (error) {
              first ??= error
            }
          },
        },
      )
      stop = () => watched.stop()
      if (keeper.config === undefined) take(watched.get(key)?.data)
      if (first !== undefined) throw first
      return keeper.config!
    },
    stop: () => stop(),
  }
}

export function settingsOfFolder(folder: string, events: SettingsEvents): SettingsSource {
  const file = join(folder, CONFIG_FILE)
  const keeper = new Keeper(events)
  let stop = () => {}
  const read = () => {
    let text: string
    try {
      text = readFileSync(file, 'utf8')
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      return keeper.fail([`${file}: cannot be read (${code}); the settings of the platform belong there`])
    }
    keeper.take(text, file)
  }
  return {
    async start() {
      read()
      stop = watchFile(file, read)
      return keeper.config!
    },
    stop: () => stop(),
  }
}
