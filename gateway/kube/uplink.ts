/**
 * Single uplink (decisions.md 23, 24): of the gateways that share one public address one is active, another stands by with all of its mappings.
 *
 *   Lease ipref-uplink, 3 s ──► UplinkState ──► holder ──► placement: is it us?
 *     candidates take and renew it; the one that stands by first, as soon as it hears nothing on the stream either, others 1.5 s after its end
 *   Secret ipref-uplink ──► key of the stream; whoever needs it first makes it
 *   active: UplinkActive dials ────stream────► UplinkStandby listens: every candidate
 *
 * API server away: nobody can take the Lease, whoever was active stays. Cut off alone: the standby takes it and says so on the stream. A gateway that is
 * neither for a minute forgets its dynamic mappings: they are another's to give. Every gateway watches the Lease, so a change is known at once;
 * the watch costs one event a renewal for each gateway, which suits the few that share an address.
 */
import { randomBytes } from 'node:crypto'
import type { Lease, Secret } from '../../resources/kinds.ts'
import { Leader } from '../../resources/leader.ts'
import { type Network, UPLINK_NAME } from '../../resources/network.ts'
import { type ResourceStore, StoreError, type Watched } from '../../resources/store.ts'
import { systemClock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Mapper } from '../mapper/mapper.ts'
import type { Peers } from '../peers/peers.ts'
import { candidatesOf, isCandidate, standbysOf } from './placement.ts'
import { UplinkActive } from './uplinkActive.ts'
import { UplinkStandby } from './uplinkStandby.ts'
import { UplinkState } from './uplinkState.ts'
import type { UplinkStore } from './uplinkStore.ts'

const KEY = 'key'
const KEY_BYTES = 32
const DURATION_MS = 3000
const RENEW_MS = 500
const PATIENCE_MS = 1500
/** Since the last word of the active gateway: we are still the best to follow it. */
const FRESH_MS = 10_000
/** Neither a word on the stream nor a renewal of the Lease, which both come every 500 ms: it has ended. */
const SILENCE_MS = 1250
const RETRY_MS = 10_000
const TICK_MS = 5000
const FORGET_MS = 60_000

export interface UplinkSettings {
  name: string
  namespace: string
  /** TCP, on node addresses */
  port: number
  stateFile: string
}

export interface UplinkPorts {
  store: ResourceStore
  log: Logger
  mapper: Pick<Mapper, 'dynamicMappings' | 'adopt' | 'merge' | 'drop'>
  mappings: UplinkStore
  peers: Pick<Peers, 'known' | 'adopt' | 'merge'>
  /** Resolves when all that was saved is on disk. */
  durable(): Promise<void>
  /** Another gateway is active now, or we are. */
  onHolder(): void
}

export interface UplinkCounts {
  /** 1: this gateway is active */
  active: number
  /** 1: active with a standby that has everything, or such a standby */
  standby: number
  alone: number
  /** remote gateways of which a standby here knows the port */
  peers: number
}

export class Uplink {
  readonly #settings: UplinkSettings
  readonly #ports: UplinkPorts
  readonly #log: Logger
  readonly #state: UplinkState
  readonly #active: UplinkActive
  readonly #standby: UplinkStandby
  #network: Network | undefined
  #leader: Leader | undefined
  #leases: Watched<'Lease'> | undefined
  #isWatching = false
  #isActive = false
  #isStarted = false
  #isStopped = false
  #leaseChangedAt = Number.NEGATIVE_INFINITY
  #idleSince = performance.now()
  #tick: NodeJS.Timeout | undefined
  #isKeyAsked = false
  #problem: string | undefined
  #ended: Promise<void> = Promise.resolve()

  constructor(settings: UplinkSettings, ports: UplinkPorts) {
    const { name, port } = settings
    const { mapper } = ports
    this.#settings = settings
    this.#ports = ports
    this.#log = ports.log.child({ component: 'uplink' })
    this.#state = new UplinkState(settings.stateFile)
    const common = {
      log: this.#log,
      key: () => this.#state.key,
      transitions: () => this.#state.holder?.transitions ?? 0,
      mappings: () => mapper.dynamicMappings(),
      unixNow: () => Date.now() / 1000,
    }
    this.#active = new UplinkActive(
      { name, port },
      {
        ...common,
        standbys: () =>
          this.#network
            ? standbysOf(this.#network, name).map(one => ({ name: one.name, addresses: one.nodeAddresses }))
            : [],
        ownAddresses: () => this.#ownAddresses(),
        merge: mapping => mapper.merge(mapping),
        peers: ports.peers,
        onTaken: (by, transitions) => this.#told({ name: by, transitions }),
      },
    )
    this.#standby = new UplinkStandby(
      { name, port },
      {
        ...common,
        isNode: address => this.#isNode(address),
        newerThan: (by, transitions) => this.#newerThan(by, transitions),
        adopt: mapping => mapper.adopt(mapping),
        drop: (kind, local) => mapper.drop(kind, local),
        durable: () => ports.durable(),
      },
    )
  }

  /** Name of the gateway that is active, as far as is known. */
  get holder(): string | undefined {
    return this.#state.holder?.name
  }

  get problems(): string[] {
    return [...(this.#problem === undefined ? [] : [this.#problem]), ...this.#standby.problems]
  }

  counts(): UplinkCounts {
    const hasStandby = this.#isActive ? this.#active.standby !== undefined : this.#standby.isSynchronized
    return {
      active: this.#isActive ? 1 : 0,
      standby: hasStandby ? 1 : 0,
      alone: this.#active.alone,
      peers: this.#standby.peers,
    }
  }

  /** One line for people; undefined: no single uplink. */
  describe(): string | undefined {
    if (this.#network?.uplink !== 'single') return undefined
    const { holder } = this
    if (this.#isActive)
      return `active, ${this.#active.standby === undefined ? 'without a standby' : `standby ${this.#active.standby}`}`
    const role = this.#standby.isSynchronized ? 'standing by for it' : 'not standing by'
    return holder === undefined ? 'no gateway is active yet' : `${holder} is active; ${role}`
  }

  start(): void {
    this.#isStarted = true
    this.#tick = setInterval(() => this.#forgetWhatIsOthers(), TICK_MS)
    this.#arrange()
  }

  /** undefined: nothing may be in force here. */
  setNetwork(network: Network | undefined): void {
    this.#network = network
    this.#arrange()
  }

  // ---- the Lease

  #arrange(): void {
    if (!this.#isStarted || this.#isStopped) return
    const { name } = this.#settings
    const isSingle = this.#network?.uplink === 'single'
    const mayHold = isSingle && isCandidate(this.#network!, name)
    this.#standby.listen(mayHold ? this.#ownAddresses() : [])
    if (isSingle && !this.#isWatching) void this.#watch()
    if (mayHold && !this.#leader) this.#compete()
    if (mayHold && !this.#isKeyAsked) void this.#findKey()
    if (!mayHold && this.#leader) this.#giveUp()
  }

  #compete(): void {
    const { name, namespace } = this.#settings
    const silentMs = () => performance.now() - this.#standby.synchronizedAt
    const waits = {
      patienceMs: () => (silentMs() < FRESH_MS ? 0 : PATIENCE_MS),
      overMs: () => (silentMs() >= SILENCE_MS && silentMs() < FRESH_MS ? SILENCE_MS : undefined),
    }
    const { store } = this.#ports
    this.#leader = new Leader(
      { lease: { namespace, name: UPLINK_NAME }, identity: name, durationMs: DURATION_MS, renewMs: RENEW_MS, ...waits },
      // who is active follows from the Lease as it is seen, not from whether it could be renewed
      { store, clock: systemClock, log: this.#log, onStart: () => void this.#look(), onLost: () => {} },
    )
    this.#leader.start()
  }

  #giveUp(): void {
    const leader = this.#leader
    this.#leader = undefined
    this.#ended = this.#ended.then(() => leader?.stop())
  }

  async #watch(): Promise<void> {
    this.#isWatching = true
    const { namespace } = this.#settings
    try {
      const options = { namespace, fieldSelector: `metadata.name=${UPLINK_NAME}` }
      this.#leases = await this.#ports.store.watch('Lease', options, { onChange: ({ now }) => this.#saw(now) })
      if (this.#isStopped) this.#leases.stop()
    } catch (error) {
      this.#problem = `Lease ${namespace}/${UPLINK_NAME} cannot be watched: ${(error as Error).message}`
      this.#log.error(this.#problem)
      setTimeout(() => {
        this.#isWatching = false
        this.#arrange()
      }, RETRY_MS).unref()
    }
  }

  // what we wrote ourselves need not come back by the watch first
  async #look(): Promise<void> {
    const { namespace } = this.#settings
    const lease = await this.#ports.store.get('Lease', { namespace, name: UPLINK_NAME }).catch(() => undefined)
    if (lease && !this.#isStopped) this.#saw(lease)
  }

  #saw(lease: Lease | undefined): void {
    this.#leaseChangedAt = performance.now()
    if (this.#state.see(lease)) this.#holderChanged()
  }

  #told(claim: { name: string; transitions: number }): void {
    if (this.#state.tell(claim)) this.#holderChanged()
  }

  #newerThan(name: string, transitions: number): { name: string; transitions: number } | undefined {
    const { holder } = this.#state
    if (!holder || holder.name === name || holder.transitions < transitions) {
      this.#told({ name, transitions })
      return undefined
    }
    return holder
  }

  #holderChanged(): void {
    this.#log.info({ active: this.holder }, 'another gateway is active')
    this.#ports.onHolder()
  }

  // ---- roles

  /** Follows from the placement: this gateway carries everything, or not. */
  setActive(isActive: boolean): void {
    if (isActive === this.#isActive) return
    this.#isActive = isActive
    this.#ports.mappings.replica = isActive ? this.#active : undefined
    this.#idleSince = performance.now()
    if (isActive) {
      const known = this.#standby.takeOver(this.#state.holder?.transitions ?? 0)
      for (const peer of known) this.#ports.peers.adopt(peer)
      this.#active.start()
    } else this.#active.stop('this gateway is not active any more')
  }

  #isNode(address: string): boolean {
    const network = this.#network
    return network !== undefined && candidatesOf(network).some(one => one.nodeAddresses.includes(address))
  }

  #ownAddresses(): readonly string[] {
    return this.#network?.gateways.find(gateway => gateway.name === this.#settings.name)?.nodeAddresses ?? []
  }

  #forgetWhatIsOthers(): void {
    const now = performance.now()
    const isNeither = this.#network?.uplink === 'single' && !this.#isActive && this.#standby.active === undefined
    // with the API server away nobody can say that another carries on
    const isLive = now - this.#leaseChangedAt < FRESH_MS && this.holder !== this.#settings.name
    if (!isNeither || !isLive) this.#idleSince = now
    if (now - this.#idleSince < FORGET_MS) return
    const { mapper } = this.#ports
    for (const { kind, local } of [...mapper.dynamicMappings()]) mapper.drop(kind, local)
    this.#standby.forgetPeers()
  }

  // ---- the key

  async #findKey(): Promise<void> {
    this.#isKeyAsked = true
    const key = { namespace: this.#settings.namespace, name: UPLINK_NAME }
    try {
      const found = (await this.#ports.store.get('Secret', key)) ?? (await this.#makeKey(key))
      const bytes = Uint8Array.from(Buffer.from(found?.data?.[KEY] ?? '', 'base64'))
      if (bytes.length < KEY_BYTES) throw new Error(`it has no ${KEY} of ${KEY_BYTES} bytes`)
      this.#state.setKey(bytes)
      this.#problem = undefined
    } catch (error) {
      // one from before does as well
      if (!this.#state.key)
        this.#problem = `no standby without Secret ${key.namespace}/${UPLINK_NAME}: ${(error as Error).message}`
      if (this.#problem !== undefined) this.#log.warn(this.#problem)
      setTimeout(() => {
        this.#isKeyAsked = false
        this.#arrange()
      }, RETRY_MS).unref()
    }
  }

  async #makeKey(key: { namespace: string; name: string }): Promise<Secret | undefined> {
    const data = { [KEY]: randomBytes(KEY_BYTES).toString('base64') }
    try {
      return await this.#ports.store.create('Secret', { apiVersion: 'v1', kind: 'Secret', metadata: key, data })
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'AlreadyExists')) throw error
      return this.#ports.store.get('Secret', key)
    }
  }

  /** Gives the Lease back: the standby goes on at once. */
  async stop(): Promise<void> {
    this.#isStopped = true
    clearInterval(this.#tick)
    this.#leases?.stop()
    this.#giveUp()
    await this.#ended
    this.#active.stop('the gateway ends')
    this.#standby.stop()
  }
}
