/**
 * Keeps the TUN device as it should be (device.ts): put up at start, looked at every second, put right when somebody took a piece away, and without routes
 * and addresses while nothing may be led to it (kube/host.ts). A device that is gone cannot be put back: nothing can be attached to what our descriptor
 * stands for.
 */
import type { Logger } from '../runtime/log.ts'
import { configureDevice, type DeviceSettings, deviceProblem, isDeviceGone, withdrawDevice } from './device.ts'

export class DeviceKeeper {
  readonly settings: DeviceSettings
  readonly #log: Logger
  readonly #onGone: () => void
  #isCarrying: boolean
  /** what is wrong and could not be put right yet */
  trouble: string | undefined

  constructor(settings: DeviceSettings, log: Logger, more: { isCarrying: boolean; onGone: () => void }) {
    this.settings = settings
    this.#log = log.child({ component: 'device' })
    this.#isCarrying = more.isCarrying
    this.#onGone = more.onGone
  }

  /** Throws what the system says. */
  putUp(): void {
    configureDevice(this.#wanted)
  }

  /** What fails is put right by the next check. */
  setCarrying(isCarrying: boolean): void {
    if (this.#isCarrying === isCarrying) return
    this.#isCarrying = isCarrying
    this.check()
  }

  get #wanted(): DeviceSettings {
    return this.#isCarrying ? this.settings : { ...this.settings, encodingNetworks: [] }
  }

  check(): void {
    try {
      if (!this.#isCarrying) withdrawDevice(this.settings)
      const problem = deviceProblem(this.#wanted)
      const isNew = problem !== undefined && problem !== this.trouble
      this.trouble = problem
      if (!problem) return
      if (isDeviceGone(this.settings)) {
        this.#log.error(`${problem}; the gateway ends, to be started anew`)
        return this.#onGone()
      }
      if (isNew) this.#log.warn(`${problem}; putting it back`)
      configureDevice(this.#wanted)
    } catch (error) {
      this.trouble = (error as Error).message
    }
  }
}
