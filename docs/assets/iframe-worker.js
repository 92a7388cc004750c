// Browsers start no Worker for a page that was opened as a file. There the search runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.scope = frame.contentWindow
      this.scope.document.open() // or Firefox would put an empty document in place of the script's
      this.scope.document.write("<!doctype html><body>")
      this.scope.document.close()
      this.scope.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = this.scope.document.createElement("script")
      this.started = new Promise(resolve => { script.onload = resolve })
      script.src = new URL(url, location)
      this.scope.document.body.append(script)
    }

    async postMessage(data) {
      await this.started
      this.scope.dispatchEvent(new MessageEvent("message", { data }))
    }
  }
}
