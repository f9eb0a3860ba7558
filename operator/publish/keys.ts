/** TSIG keys of outputs, from the configuration or from Secrets. */
import { parseTsigKey, type TsigKey } from '../../dns/tsig.ts'
import type { KeySecret } from '../../resources/config.ts'
import type { ResourceStore } from '../../resources/store.ts'

/** Rejects with a sentence; never says a secret. `namespace`: where a Secret is that says none. */
export async function readKey(
  given: { key?: string; keySecret?: KeySecret },
  store: ResourceStore,
  namespace: string,
): Promise<TsigKey | undefined> {
  if (given.key !== undefined) return parsed(given.key, 'the key of the configuration')
  if (!given.keySecret) return undefined
  const { name, key } = given.keySecret
  const place = { namespace: given.keySecret.namespace ?? namespace, name }
  const shown = `Secret ${place.namespace}/${name}`
  const secret = await store.get('Secret', place)
  if (!secret) throw new Error(`${shown} is not there: make it, with ALGORITHM:NAME:SECRET in its entry ${key}`)
  const text = secret.data?.[key]
  if (text === undefined) throw new Error(`${shown} has no entry ${key}`)
  return parsed(Buffer.from(text, 'base64').toString('latin1').trim(), `${shown}, entry ${key}`)
}

function parsed(text: string, where: string): TsigKey {
  const key = parseTsigKey(text)
  // what parseTsigKey says may hold what was taken for a name
  if (typeof key === 'string')
    throw new Error(`${where} is no TSIG key: write ALGORITHM:NAME:SECRET, with the secret in base64`)
  return key
}
