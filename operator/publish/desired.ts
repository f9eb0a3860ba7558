/**
 * What shall be published, of all objects together, kept up to date one object at a time.
 *
 *   set(key, records) ──► names: who wants each, the oldest object has it ──► sets of each zone, and what was there before
 *
 * A name belongs to one object: the service controller settles conflicts by age, and so does this, for names of members and for moments in between. What
 * is not wanted any more is remembered as `former` until it was seen gone: an output that cannot list its zone would not find it, and an object that is being deleted
 * waits for it. Owner: the publisher.
 */
import { isSameSet, type ObjectRecords, type RecordSet, setKey, type ZoneKind, zoneKinds } from './records.ts'

export interface OwnedSet extends RecordSet {
  /** `namespace/name` of an IprefService, name of an IprefPeer */
  owner: string
}

/** One zone as it shall be; never changed once it was handed out. */
export interface DesiredZone {
  kind: ZoneKind
  /** lower case, without a dot at its end */
  zone: string
  /** by setKey, in no order */
  sets: ReadonlyMap<string, OwnedSet>
  /** names that had records, and have none any more */
  former: ReadonlySet<string>
}

export interface Desired {
  version: number
  /** a zone that is not published is absent */
  zones: ReadonlyMap<ZoneKind, DesiredZone>
}

interface Claim {
  key: string
  age: string
  sets: RecordSet[]
}

/** One set that changed. */
export interface SetChange {
  kind: ZoneKind
  key: string
  now: OwnedSet | undefined
  before: OwnedSet | undefined
}

class ZoneTable {
  readonly kind: ZoneKind
  readonly sets = new Map<string, OwnedSet>()
  /** last values of sets that are gone */
  readonly former = new Map<string, OwnedSet>()
  readonly #claims = new Map<string, Claim[]>()
  /** names by object */
  readonly #names = new Map<string, string[]>()

  constructor(kind: ZoneKind) {
    this.kind = kind
  }

  set(key: string, age: string, sets: readonly RecordSet[]): SetChange[] {
    const touched = new Set(this.#names.get(key))
    for (const name of touched) this.#remove(name, key)
    const byName = new Map<string, RecordSet[]>()
    for (const set of sets) byName.set(set.name, [...(byName.get(set.name) ?? []), set])
    for (const [name, of] of byName) {
      const claims = [...(this.#claims.get(name) ?? []), { key, age, sets: of }]
      claims.sort((a, b) => (a.age < b.age ? -1 : 1))
      this.#claims.set(name, claims)
      touched.add(name)
    }
    if (byName.size > 0) this.#names.set(key, [...byName.keys()])
    else this.#names.delete(key)
    return [...touched].flatMap(name => this.#settle(name))
  }

  #remove(name: string, key: string): void {
    const claims = this.#claims.get(name)?.filter(claim => claim.key !== key) ?? []
    if (claims.length > 0) this.#claims.set(name, claims)
    else this.#claims.delete(name)
  }

  #settle(name: string): SetChange[] {
    const winner = this.#claims.get(name)?.[0]
    const changes: SetChange[] = []
    for (const type of ['A', 'AAAA', 'TXT'] as const) {
      const key = setKey({ name, type })
      const before = this.sets.get(key)
      const wanted = winner?.sets.find(set => set.type === type)
      if (isSameSet(before, wanted) && before?.owner === (wanted && winner!.key)) continue
      const now = wanted && { ...wanted, owner: winner!.key }
      if (now) {
        this.sets.set(key, now)
        this.former.delete(key)
      } else {
        this.sets.delete(key)
        if (before) this.former.set(key, before)
      }
      changes.push({ kind: this.kind, key, now, before })
    }
    return changes
  }

  ownerOf(name: string): string | undefined {
    return this.#claims.get(name)?.[0]?.key
  }

  forget(key: string): boolean {
    return this.former.delete(key)
  }

  /** Something may be out there that nobody here has asked for since the program started. */
  suspect(set: OwnedSet): boolean {
    const key = setKey(set)
    if (this.sets.has(key) || this.former.has(key)) return false
    this.former.set(key, set)
    return true
  }
}

export class DesiredTable {
  readonly #zones = new Map<ZoneKind, ZoneTable>(zoneKinds.map(kind => [kind, new ZoneTable(kind)]))
  #names = new Map<ZoneKind, string>()
  #version = 1
  #snapshot: Desired | undefined
  readonly #unchanged = new Map<ZoneKind, DesiredZone>()

  constructor(zones: ReadonlyMap<ZoneKind, string>) {
    this.#names = new Map(zones)
  }

  get version(): number {
    return this.#version
  }

  /** `age`: objects are ordered by it. */
  set(key: string, age: string, records: ObjectRecords | undefined): SetChange[] {
    const changes: SetChange[] = []
    for (const [kind, table] of this.#zones) changes.push(...table.set(key, age, records?.[kind] ?? []))
    for (const { kind } of changes) this.#changed(kind)
    return changes
  }

  suspect(kind: ZoneKind, set: OwnedSet): boolean {
    const isNew = this.#zones.get(kind)!.suspect(set)
    if (isNew) this.#changed(kind)
    return isNew
  }

  /** It was seen gone. No new version: nothing else shall be published. */
  forget(kind: ZoneKind, key: string): void {
    if (this.#zones.get(kind)!.forget(key)) {
      this.#unchanged.delete(kind)
      this.#snapshot = undefined
    }
  }

  #changed(kind: ZoneKind): void {
    this.#version++
    this.#unchanged.delete(kind)
    this.#snapshot = undefined
  }

  get(kind: ZoneKind, key: string): OwnedSet | undefined {
    return this.#zones.get(kind)!.sets.get(key)
  }

  former(kind: ZoneKind, key: string): OwnedSet | undefined {
    return this.#zones.get(kind)!.former.get(key)
  }

  *formerSets(): Iterable<[ZoneKind, OwnedSet]> {
    for (const [kind, { former }] of this.#zones) for (const set of former.values()) yield [kind, set]
  }

  /** The object that has this name. */
  ownerOf(kind: ZoneKind, name: string): string | undefined {
    return this.#zones.get(kind)!.ownerOf(name)
  }

  size(kind: ZoneKind): number {
    return this.#zones.get(kind)!.sets.size
  }

  /** As it is now. */
  snapshot(): Desired {
    this.#snapshot ??= { version: this.#version, zones: new Map(this.#snapshots()) }
    return this.#snapshot
  }

  *#snapshots(): Iterable<[ZoneKind, DesiredZone]> {
    for (const [kind, zone] of this.#names) {
      let snapshot = this.#unchanged.get(kind)
      if (!snapshot) {
        const { sets, former } = this.#zones.get(kind)!
        const names = new Set([...former.values()].map(({ name }) => name))
        for (const { name } of sets.values()) names.delete(name)
        snapshot = { kind, zone, sets: new Map(sets), former: names }
        this.#unchanged.set(kind, snapshot)
      }
      yield [kind, snapshot]
    }
  }
}
