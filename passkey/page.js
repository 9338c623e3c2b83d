"use strict";
(() => {
  // This script decides and decodes nothing. It tells the program on this machine which
  // button was pressed, and hands what the program answers to navigator.credentials.
  const status = document.getElementById("status");
  const again = document.getElementById("again");
  const choices = [...document.querySelectorAll("button[data-choice]")];
  const say = (text, tone) => { status.textContent = text; status.className = tone || ""; };
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  const encode = (words) => new TextEncoder().encode(words);

  // Only who served this page knows its key. Another program that stands at its address
  // later could otherwise have the passkey sign something else under what is shown here.
  const main = document.querySelector("main");
  const served = crypto.subtle.importKey("raw", encode(main.dataset.key), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  main.removeAttribute("data-key");

  const post = async (path, body, signal) => {
    const asked = text(crypto.getRandomValues(new Uint8Array(32)));
    const headers = { "Content-Type": "application/json", "Coffer-Asked": asked };
    const reply = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), credentials: "same-origin", cache: "no-store", redirect: "error", signal });
    if (!reply.ok) throw new Error("The program refused this (" + reply.status + "). Open the address that coffer printed again.");
    const said = await reply.text();
    const proof = bytes(reply.headers.get("Coffer-Proof") || "");
    if (!await crypto.subtle.verify("HMAC", await served, proof, encode(asked + "\n" + said))) {
      throw new Error("Another program answers at this address. Nothing was signed: close this page and call your operators.");
    }
    return JSON.parse(said);
  };

  const create = async (o) => {
    const c = await navigator.credentials.create({ publicKey: {
      challenge: bytes(o.challenge), rp: { id: o.rp, name: "coffer" },
      user: { id: bytes(o.user), name: o.name, displayName: o.name },
      pubKeyCredParams: o.algorithms.map((alg) => ({ type: "public-key", alg })),
      authenticatorSelection: { residentKey: "preferred", userVerification: "required" },
      attestation: "none", timeout: o.timeout,
    } });
    return { id: text(c.rawId), attestation: text(c.response.attestationObject), clientData: text(c.response.clientDataJSON) };
  };

  const get = async (o) => {
    const c = await navigator.credentials.get({ publicKey: {
      challenge: bytes(o.challenge), rpId: o.rp, userVerification: "required", timeout: o.timeout,
      allowCredentials: o.ids.map((id) => ({ type: "public-key", id: bytes(id) })),
    } });
    return { id: text(c.rawId), authenticatorData: text(c.response.authenticatorData), clientData: text(c.response.clientDataJSON), signature: text(c.response.signature) };
  };

  const pressed = (button) => new Promise((resolve) => button.addEventListener("click", resolve, { once: true }));

  // Ask until the authenticator answers: a touch that came too late costs a button, not the page.
  const ask = async (step) => {
    for (;;) {
      try {
        say(step.text);
        return await (step.do === "create" ? create(step) : get(step));
      } catch (e) {
        say("The passkey did not answer (" + e.name + "). Nothing was signed.", "bad");
        again.hidden = false;
        again.focus();
        await pressed(again);
        again.hidden = true;
      }
    }
  };

  // The program ends when nobody chooses for long, or by a key at the terminal.
  const ended = async (signal) => {
    for (;;) {
      const step = await post("next", { at: "choose" }, signal);
      if (step.do === "done") return step;
      if (step.do !== "choose") throw new Error("Another window of this page goes on.");
    }
  };

  const run = async () => {
    if (!window.PublicKeyCredential) throw new Error("this browser knows no passkeys");
    let step = await post("next", {});
    for (;;) {
      switch (step.do) {
        case "choose": {
          say("");
          choices.forEach((b) => { b.disabled = false; });
          const chosen = new AbortController();
          const choice = await Promise.race([ended(chosen.signal), ...choices.map((b) => pressed(b).then(() => b.dataset.choice))]);
          chosen.abort();
          choices.forEach((b) => { b.disabled = true; });
          if (choice.do) { // no button: the program went on by itself
            step = choice;
            break;
          }
          say("…");
          step = await post("choose", { choice });
          break;
        }
        case "create":
        case "get":
          step = await post("answer", await ask(step));
          break;
        case "wait":
          step = await post("next", {});
          break;
        default:
          say(step.text + " You can close this page.", step.ok ? "good" : "bad");
          return;
      }
    }
  };
  run().catch((e) => {
    choices.forEach((b) => { b.disabled = true; });
    say(e instanceof TypeError ? "The program that served this page has ended." : e.message, "bad");
  });
})();
