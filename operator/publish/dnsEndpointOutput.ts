/**
 * Output: DNSEndpoint objects, which external-dns turns into records of any of its providers.
 *
 *   one object for each IprefService or IprefPeer with records ──► create, update, delete ──► external-dns
 *
 * external-dns 0.22 or later, with its `crd` source and TXT among its managed record types; before, TXT records were made and never changed or deleted. An AA
 * string must arrive as one character-string, and how is up to the provider: those that build zone text (rfc2136) need quotes in the target, those that
 * store it as it is (CoreDNS) must not have them: `quoting`. Objects that are not labelled as ours are left alone.
 */
import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { DnsEndpoint } from '../../resources/kinds.ts'
import { kindTable } from '../../resources/kinds.ts'
import { type Key, type ResourceStore, StoreError, type Watched } from '../../resources/store.ts'
import type { Desired, OwnedSet } from './desired.ts'
import type { Applied, Output } from './output.ts'
import type { ZoneKind } from './records.ts'
import { MANAGED_BY } from './serialBook.ts'

export interface DnsEndpointConfig {
  namespace: string
  quoting: 'quoted' | 'plain'
  zones: readonly ZoneKind[]
}

const LABEL = Object.entries(MANAGED_BY)
  .map(([key, value]) => `${key}=${value}`)
  .join(',')
const OBJECT = 'ipref.io/object'
const LOOK_MS = 300_000
const MOST_NAME = 253

export class DnsEndpointOutput implements Output {
  readonly name = 'DNSEndpoint objects'
  readonly zones: readonly ZoneKind[]
  readonly lookEveryMs = LOOK_MS
  readonly #config: DnsEndpointConfig
  readonly #store: ResourceStore
  readonly #onChange: () => void
  #view: Watched<'DNSEndpoint'> | undefined
  /** what each object was made of when it was right */
  readonly #done = new Map<string, readonly OwnedSet[]>()

  /** `onChange`: somebody may have changed an object of ours */
  constructor(config: DnsEndpointConfig, store: ResourceStore, onChange: () => void) {
    this.#config = config
    this.#store = store
    this.#onChange = onChange
    this.zones = config.zones
  }

  doubt(): void {
    this.#done.clear()
  }

  servers(): readonly [] {
    return []
  }

  async apply(desired: Desired): Promise<Applied> {
    const view = await this.#watch()
    const conflicts = new Map<string, string>()
    const wanted = setsByObject(desired, this.#config)
    for (const name of this.#done.keys()) if (!wanted.has(name)) this.#done.delete(name)
    for (const [name, { owner, sets }] of wanted) {
      const before = this.#done.get(name)
      if (before && isSameList(before, sets)) continue
      const object = endpointObject(name, owner, sets, this.#config)
      const problem = await this.#put(view, { name, namespace: this.#config.namespace }, object)
      if (problem === undefined) this.#done.set(name, sets)
      else for (const set of sets) conflicts.set(`${set.type === 'TXT' ? 'public' : 'internal'} ${set.name}`, problem)
    }
    for (const { metadata } of [...view.all()]) {
      if (wanted.has(metadata.name)) continue
      const { name, namespace, uid } = metadata
      await this.#store.delete('DNSEndpoint', { name, namespace: namespace! }, uid === undefined ? {} : { uid })
    }
    return { conflicts }
  }

  async #watch(): Promise<Watched<'DNSEndpoint'>> {
    if (this.#view) return this.#view
    const { namespace } = this.#config
    try {
      this.#view = await this.#store.watch(
        'DNSEndpoint',
        { namespace, labelSelector: LABEL },
        { onChange: ({ before, now }) => this.#changed(before, now) },
      )
      return this.#view
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      if (error.code === 'NoSuchKind')
        throw new Error(
          'DNSEndpoint objects are not served: install the CRD of external-dns, or take publishers.dnsEndpoint away',
          { cause: error },
        )
      if (error.code === 'Forbidden')
        throw new Error(`DNSEndpoint objects in namespace ${namespace} may not be read: give the operator the role`, {
          cause: error,
        })
      throw error
    }
  }

  // of our own writes too, which then change nothing
  #changed(before: DnsEndpoint | undefined, now: DnsEndpoint | undefined): void {
    if (!before || isDeepStrictEqual(before.spec, now?.spec)) return
    this.#done.delete(before.metadata.name)
    this.#onChange()
  }

  /** The reason why it is left alone. */
  async #put(view: Watched<'DNSEndpoint'>, key: Key, object: DnsEndpoint): Promise<string | undefined> {
    const known = view.get(key)
    if (known && isDeepStrictEqual(known.spec, object.spec)) return undefined
    if (known) {
      await this.#store.update('DNSEndpoint', { ...known, spec: object.spec })
      return undefined
    }
    try {
      await this.#store.create('DNSEndpoint', object)
      return undefined
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'AlreadyExists')) throw error
      const found = await this.#store.get('DNSEndpoint', key)
      if (!found) throw error
      if (isOurs(found)) {
        await this.#store.update('DNSEndpoint', { ...found, spec: object.spec })
        return undefined
      }
      return `DNSEndpoint ${key.namespace}/${key.name} is somebody else's (no label ${LABEL})`
    }
  }

  async stop(): Promise<void> {
    this.#view?.stop()
    this.#view = undefined
  }
}

function isOurs({ metadata }: DnsEndpoint): boolean {
  return Object.entries(MANAGED_BY).every(([key, value]) => metadata.labels?.[key] === value)
}

interface ObjectSets {
  owner: string
  sets: OwnedSet[]
}

/** By name of the object. */
function setsByObject(desired: Desired, { zones }: DnsEndpointConfig): Map<string, ObjectSets> {
  const byOwner = new Map<string, ObjectSets>()
  for (const kind of zones)
    for (const set of desired.zones.get(kind)?.sets.values() ?? []) {
      const known = byOwner.get(set.owner)
      if (known) known.sets.push(set)
      else byOwner.set(set.owner, { owner: set.owner, sets: [set] })
    }
  const byName = new Map<string, ObjectSets>()
  for (const one of byOwner.values()) {
    one.sets.sort(compareSets)
    byName.set(objectName(one.owner), one)
  }
  return byName
}

function isSameList(a: readonly OwnedSet[], b: readonly OwnedSet[]): boolean {
  return a.length === b.length && a.every((set, i) => set === b[i])
}

function endpointObject(
  name: string,
  owner: string,
  sets: readonly OwnedSet[],
  { namespace, quoting }: DnsEndpointConfig,
): DnsEndpoint {
  return {
    apiVersion: kindTable.DNSEndpoint.apiVersion,
    kind: 'DNSEndpoint',
    metadata: { name, namespace, labels: { ...MANAGED_BY }, annotations: { [OBJECT]: owner } },
    spec: { endpoints: sets.map(set => endpointOf(set, quoting)) },
  }
}

function endpointOf({ name, type, ttl, values }: OwnedSet, quoting: DnsEndpointConfig['quoting']) {
  const isQuoted = type === 'TXT' && quoting === 'quoted'
  return {
    dnsName: name,
    recordType: type,
    recordTTL: ttl,
    targets: values.map(value => (isQuoted ? `"${value}"` : value)),
  }
}

function compareSets(a: OwnedSet, b: OwnedSet): number {
  return a.name === b.name ? (a.type < b.type ? -1 : 1) : a.name < b.name ? -1 : 1
}

/** `<namespace>.<name>`: a namespace has no dot. Hosts of peers: `peers.<name>`, for no namespace of that name publishes anything. */
function objectName(owner: string): string {
  const whole = owner.includes('/') ? owner.replace('/', '.') : `peers.${owner}`
  if (whole.length <= MOST_NAME) return whole
  const hash = createHash('sha256').update(whole).digest('hex').slice(0, 16)
  return `${whole.slice(0, MOST_NAME - 17).replace(/[-.]+$/, '')}-${hash}`
}
