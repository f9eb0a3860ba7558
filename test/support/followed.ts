/** A watch whose story is checked: each change must fit what the changes before have told, and in the end the view must be the truth. */
import { expect } from 'vitest'
import type { ConfigMap } from '../../resources/kinds.ts'
import type { Change, ResourceStore, Watched, WatchOptions } from '../../resources/store.ts'
import { keyText } from '../../resources/view.ts'
import { until } from '../contract/resourceStore.ts'

export interface Followed {
  view: Watched<'ConfigMap'>
  changes: Change<'ConfigMap'>[]
  /** what was told of troubles; undefined: they are over */
  troubles: (string | undefined)[]
  /** Waits until the view is what `truth` lists, and checks it against what was told. */
  converge(truth: ResourceStore): Promise<void>
}

export async function follow(store: ResourceStore, options: WatchOptions): Promise<Followed> {
  const told = new Map<string, ConfigMap>()
  const changes: Change<'ConfigMap'>[] = []
  const troubles: (string | undefined)[] = []
  const mistakes: string[] = []
  const view = await store.watch('ConfigMap', options, {
    onChange(change) {
      changes.push(change)
      const key = keyText((change.now ?? change.before)!.metadata)
      if (told.get(key) !== change.before) mistakes.push(`${key}: told of a change from what it was not`)
      if (change.now) told.set(key, change.now)
      else told.delete(key)
    },
    onTrouble: problem => troubles.push(problem),
  })
  return {
    view,
    changes,
    troubles,
    async converge(truth) {
      const isTrue = async () => {
        const listed = await truth.list('ConfigMap', options)
        return versions(listed) === versions([...view.all()])
      }
      await until(isTrue, done => done)
      expect(mistakes).toEqual([])
      expect(versions([...told.values()])).toBe(versions([...view.all()]))
    },
  }
}

function versions(objects: readonly ConfigMap[]): string {
  return objects
    .map(({ metadata: { namespace, name, resourceVersion } }) => `${namespace}/${name} ${resourceVersion}`)
    .sort()
    .join('\n')
}
