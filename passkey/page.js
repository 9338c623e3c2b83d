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

  const post = async (path, body) => {
    const reply = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), credentials: "same-origin", cache: "no-store", redirect: "error" });
    if (!reply.ok) throw new Error((await reply.text()).trim() || reply.statusText);
    return reply.json();
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

  const run = async () => {
    if (!window.PublicKeyCredential) throw new Error("this browser knows no passkeys");
    let step = await post("next", {});
    for (;;) {
      switch (step.do) {
        case "choose": {
          say("");
          choices.forEach((b) => { b.disabled = false; });
          const choice = await Promise.race(choices.map((b) => pressed(b).then(() => b.dataset.choice)));
          choices.forEach((b) => { b.disabled = true; });
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
