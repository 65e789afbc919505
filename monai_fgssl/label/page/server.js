// Copyright (c) monai-fgssl contributors
// SPDX-License-Identifier: Apache-2.0
// Requests to the server, and signing in where it asks for that.
import { $ } from "./dom.js";
import { t } from "./texts.js";

// What lies before "/fgssl/" in the page's address, for a server behind a proxy.
const ROOT = location.pathname.replace(/\/fgssl(\/.*)?$/, "");

export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export async function request(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(ROOT + path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new ServerError(t("unreachable"));
  }
  if (response.status === 401) {
    await signIn();
    return request(path, options);
  }
  if (!response.ok) throw new ServerError(await reason(response), response.status);
  return response;
}

async function reason(response) {
  const content = await response.json().catch(() => null);
  if (typeof content?.detail === "string" && content.detail) return content.detail.trim().slice(0, 300);
  return t("answered_with_error", { status: response.status });
}

export const getJson = async (path, options) => (await request(path, options)).json();

export const getBlob = async (path) => (await request(path)).blob();

// Fetches a picture, and the choices of window and slice of its image; null: none.
export async function getPicture(path) {
  const response = await request(path);
  return { blob: await response.blob(), choices: JSON.parse(response.headers.get("X-View") ?? "null") };
}

export const sendJson = (method, path, content = {}) =>
  getJson(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });

let signingIn = null;

function signIn() {
  // Several requests may fail at once: they wait for the same dialog.
  signingIn ??= new Promise((done, failed) => {
    const form = $("sign-in").querySelector("form");
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        const response = await fetch(`${ROOT}/auth/token`, { method: "POST", body: new URLSearchParams(new FormData(form)) });
        if (response.status === 401) throw new ServerError(t("sign_in_refused"));
        if (!response.ok) throw new ServerError(await reason(response));
        sessionStorage.setItem("token", (await response.json()).access_token);
        form.reset();
        $("sign-in").close();
        signingIn = null;
        done();
      } catch (error) {
        $("sign-in-error").textContent = error instanceof ServerError ? error.message : t("sign_in_unreachable");
      }
    };
    $("sign-in").oncancel = () => {
      signingIn = null;
      failed(new ServerError(t("sign_in_first")));
    };
    $("sign-in-error").textContent = "";
    $("sign-in").showModal();
  });
  return signingIn;
}
