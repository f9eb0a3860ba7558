/**
 * A folder of objects, users who change them, and the service controller at work on it with a clock that the test moves.
 *
 *   users ── put, change, remove ──► DirectoryStore ◄── controller (through whatever store the test puts before it)
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { keyOf } from '../../operator/byKey.ts'
import { Cluster } from '../../operator/cluster.ts'
import type { Finding } from '../../operator/conditions.ts'
import { Events } from '../../operator/events.ts'
import { type Publication, ServiceController } from '../../operator/service/reconcile.ts'
import { ReferenceBook } from '../../operator/service/references.ts'
import { allServices, listenForServices } from '../../operator/service/triggers.ts'
import { Worker } from '../../operator/worker.ts'
import { referenceOf } from '../../resources/claims.ts'
import type { Config } from '../../resources/config.ts'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { type IprefReference, type IprefService, type KindName, type Kinds, kindTable } from '../../resources/kinds.ts'
import type { ResourceStore } from '../../resources/store.ts'
import { ManualClock } from './manualClock.ts'
import { settings } from './operatorObjects.ts'
import { silentLog } from './silentLog.ts'

const PATIENCE_MS = 60_000
/** Thousands of synced writes: disks have nothing to do with what is tested. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

export class ServiceWorld {
  readonly clock = new ManualClock()
  readonly folder = mkdtempSync(join(MEMORY, 'ipref-service-'))
  store!: DirectoryStore
  /** of whichever operator is at work */
  readonly publication = new TestPublication()

  static async open(): Promise<ServiceWorld> {
    const world = new ServiceWorld()
    world.store = await DirectoryStore.open(world.folder, { now: () => world.clock.now() })
    return world
  }

  async close(): Promise<void> {
    await this.store.close()
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Made, or brought to what it says; objects that are made one after the other have different ages. */
  async put<Kind extends KindName>(...objects: Kinds[Kind][]): Promise<void> {
    for (const object of objects) {
      const kind = object.kind as Kind
      const { name, namespace } = object.metadata
      const known = await this.store.get(kind, namespace === undefined ? { name } : { name, namespace })
      const { uid: _uid, resourceVersion: _version, ...said } = object.metadata
      const metadata = { ...known?.metadata, ...said }
      const made = known
        ? await this.store.update(kind, { ...object, metadata })
        : await this.store.create(kind, { ...object, metadata: said })
      const { status } = object as { status?: unknown }
      if (status !== undefined) await this.store.updateStatus(kind, { ...made, status } as unknown as Kinds[Kind])
      if (object.kind === 'IprefService' && !known) await this.clock.advance(1000)
    }
  }

  async change<Kind extends KindName>(
    kind: Kind,
    name: string,
    edit: (object: Kinds[Kind]) => void,
    namespace = 'shop',
  ) {
    const object = (await this.store.get(kind, kindTable[kind].scope === 'Cluster' ? { name } : { name, namespace }))!
    edit(object)
    return this.store.update(kind, object)
  }

  remove(kind: KindName, name: string, namespace = 'shop'): Promise<void> {
    return this.store.delete(kind, kindTable[kind].scope === 'Cluster' ? { name } : { name, namespace })
  }

  object(name: string, namespace = 'shop'): Promise<IprefService | undefined> {
    return this.store.get('IprefService', { namespace, name })
  }

  /** `SLOT ADDRESS REFERENCE` of what is mapped. */
  async mapped(name: string, namespace = 'shop'): Promise<string[]> {
    const object = await this.object(name, namespace)
    return (object?.status?.mappings ?? []).map(({ slot, address, reference }) => `${slot} ${address} ${reference}`)
  }

  /** The reference of the first mapping. */
  async reference(name: string, namespace = 'shop'): Promise<string | undefined> {
    return (await this.object(name, namespace))?.status?.mappings?.[0]?.reference
  }

  /** `STATUS REASON` of one condition. */
  async condition(name: string, type = 'Ready', namespace = 'shop'): Promise<string | undefined> {
    const found = (await this.object(name, namespace))?.status?.conditions?.find(one => one.type === type)
    return found && `${found.status} ${found.reason}`
  }

  claims(): Promise<IprefReference[]> {
    return this.store.list('IprefReference')
  }

  async start(store: ResourceStore = this.store, config: Config = settings()): Promise<Operator> {
    const operator = new Operator(store, this, config)
    await operator.start()
    return operator
  }

  /** What must hold whenever nothing is left to do: a line for each thing that does not. */
  async faults(): Promise<string[]> {
    const claims = new Map((await this.claims()).map(claim => [referenceOf(claim), claim]))
    const objects = await this.store.list('IprefService')
    const faults: string[] = []
    const addresses = new Map<string, string>()
    const used = new Set<string>()
    for (const object of objects) {
      const slots = new Set<string>()
      for (const { slot, family, address, reference } of object.status?.mappings ?? []) {
        const what = `${keyOf(object)} ${slot} ${address} ${reference}`
        const claim = claims.get(reference)
        if (!claim) faults.push(`${what}: nobody has claimed it`)
        else if (claim.spec.releasedAt !== undefined) faults.push(`${what}: its claim is let go`)
        else if (!objects.some(one => one.metadata.uid === claim.spec.uid)) faults.push(`${what}: its owner is gone`)
        if ((addresses.get(reference) ?? address) !== address)
          faults.push(`${what}: also of ${addresses.get(reference)}`)
        if (slots.has(`${slot} ${family}`)) faults.push(`${what}: two addresses in one slot`)
        slots.add(`${slot} ${family}`)
        addresses.set(reference, address)
        used.add(reference)
      }
    }
    for (const [reference, { spec }] of claims)
      if (spec.releasedAt === undefined && !used.has(reference))
        faults.push(`claim ${reference} of ${spec.name}: nobody uses it`)
    return faults
  }
}

/** What the test says of records. */
export class TestPublication implements Publication {
  published: Finding['status'] = 'True'
  isGone = true
  internal = () => this.#finding('PublishedInternal')
  public = () => this.#finding('PublishedPublic')
  isWithdrawn = () => this.isGone
  isNameGone = () => this.isGone

  #finding(type: string): Finding {
    return {
      type,
      status: this.published,
      reason: this.published === 'True' ? 'Published' : 'NotReadBack',
      message: '',
    }
  }
}

export class Operator {
  readonly cluster: Cluster
  readonly worker: Worker
  /** every end of a reconcile */
  readonly results: string[] = []
  readonly #clock: ManualClock

  constructor(store: ResourceStore, { clock, publication }: ServiceWorld, config: Config) {
    this.#clock = clock
    this.cluster = new Cluster(store, config, silentLog)
    const book = new ReferenceBook(store, () => this.cluster.config.referenceLength)
    this.cluster.listen('IprefReference', change => void book.change(change))
    const gateways = () => this.cluster.gateways()
    const controller = new ServiceController({
      ...{ store, cluster: this.cluster, book, publication, gateways, clock },
      events: new Events({ store, clock, log: silentLog, namespace: 'ipref' }),
    })
    this.worker = new Worker({
      name: 'service',
      reconcile: controller.reconcile,
      ...{ clock, log: silentLog, random: () => 0.5, concurrency: 4 },
      onDone: ({ result }) => this.results.push(result),
    })
    listenForServices(this.cluster, gateways, key => this.worker.add(key))
  }

  async start(): Promise<void> {
    await this.cluster.start()
    this.worker.start()
    await this.settle()
  }

  /** Until nothing is left to do now. */
  async settle(): Promise<void> {
    const started = performance.now()
    for (let quiet = 0; quiet < 5; quiet = this.worker.isIdle ? quiet + 1 : 0) {
      if (performance.now() - started > PATIENCE_MS) throw new Error('the controller finds no end')
      await new Promise(resolve => setImmediate(resolve))
    }
  }

  /** In steps, after each of which it does what is due. */
  async advance(ms: number, stepMs = ms): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      await this.#clock.advance(Math.min(left, stepMs))
      await this.settle()
    }
  }

  /** As a periodic full pass does. */
  async resync(): Promise<void> {
    for (const key of allServices(this.cluster)) this.worker.add(key)
    await this.settle()
  }

  async stop(): Promise<void> {
    await this.worker.stop()
    this.cluster.stop()
  }
}
