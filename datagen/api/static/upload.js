// Uploading a dataset: an archive as it is, or a folder, packed into a tar on the way.
import { $, number, toast } from "./core.js";

const form = $("#upload");
if (form) start();

function start() {
  let body = null;
  let request = null;

  const choose = (blob, name, told) => {
    body = blob;
    $("#chosen").textContent = told;
    $("#send").disabled = false;
    if (!$("#name").value) {
      $("#name").value = name.toLowerCase().replace(/\.(zip|tar|tgz|gz|npz|parquet)$/g, "")
        .replace(/\.tar$/, "").replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 64);
    }
  };
  const chooseFiles = (files, name) => {
    const kept = files.filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")));
    if (!kept.length) { problem("There are no files in it; choose a folder with a folder a class."); return; }
    const bytes = kept.reduce((sum, { file }) => sum + file.size, 0);
    choose(packed(kept), name, `${number(kept.length)} files, ${(bytes / 1e6).toFixed(1)} MB`);
  };

  $("#file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) choose(file, file.name, `${file.name}, ${(file.size / 1e6).toFixed(1)} MB`);
  });
  $("#folder").addEventListener("change", (event) => {
    const files = [...event.target.files].map((file) => ({ file, path: inner(file.webkitRelativePath) }));
    if (files.length) chooseFiles(files, event.target.files[0].webkitRelativePath.split("/")[0]);
  });
  const drop = $("#drop");
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const entry = event.dataTransfer.items[0]?.webkitGetAsEntry?.();
    if (entry?.isDirectory) {
      chooseFiles(await walked(entry, ""), entry.name);
    } else if (event.dataTransfer.files[0]) {
      const [file] = event.dataTransfer.files;
      choose(file, file.name, `${file.name}, ${(file.size / 1e6).toFixed(1)} MB`);
    }
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    problem(null);
    const query = new URLSearchParams({ name: $("#name").value });
    if ($("#side").value) query.set("size", $("#side").value);
    if ($("#pad").checked) query.set("pad", "true");
    if ($("#skip").checked) query.set("on_error", "skip");
    request = new XMLHttpRequest();
    request.open("POST", `/v1/datasets?${query}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = ({ loaded, total }) => {
      $("#sent").value = loaded / total;
      $("#chosen").textContent = loaded < total ? `${Math.floor((100 * loaded) / total)}% sent`
        : "All is sent; the images are being read.";
    };
    request.onload = () => {
      busy(false);
      let told = null;
      try { told = JSON.parse(request.responseText); } catch { /* said below */ }
      if (request.status === 201) location.assign(`/datasets/${told.id}`);
      else problem(told?.detail ?? `The server answered ${request.status}.`);
    };
    request.onerror = () => { busy(false); problem("The connection broke; try again."); };
    request.onabort = () => { busy(false); $("#chosen").textContent = "Cancelled."; };
    busy(true);
    request.send(body);
  });
  $("#stop").addEventListener("click", () => request?.abort());

  const busy = (is) => {
    $("#send").disabled = is || !body;
    $("#stop").hidden = !is;
    $("#sent").hidden = !is;
    $("#sent").value = 0;
  };
  const problem = (text) => {
    $("#upload-problem").hidden = !text;
    $("#upload-problem").textContent = text ?? "";
    if (text) toast("The upload was refused.", true);
  };
}

const inner = (path) => path.split("/").slice(1).join("/");

async function walked(entry, path) {
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) break;
    for (const one of some) {
      const at = path ? `${path}/${one.name}` : one.name;
      if (one.isDirectory) found.push(...await walked(one, at));
      else found.push({ path: at, file: await new Promise((resolve, reject) => { one.file(resolve, reject); }) });
    }
  }
  return found;
}

// A tar in the ustar format with PAX headers for long names; the files themselves are not copied.
function packed(files) {
  const parts = [];
  const encoder = new TextEncoder();
  const add = (path, size, content, type) => {
    const head = new Uint8Array(512);
    const put = (text, at, length) => head.set(encoder.encode(text).slice(0, length), at);
    put(path, 0, 100);
    put("0000644\0", 100, 8); put("0000000\0", 108, 8); put("0000000\0", 116, 8);
    put(`${size.toString(8).padStart(11, "0")}\0`, 124, 12);
    put("00000000000\0", 136, 12);
    put("        ", 148, 8);
    put(type, 156, 1);
    put("ustar\u000000", 257, 8);
    const sum = head.reduce((total, byte) => total + byte, 0);
    put(`${sum.toString(8).padStart(6, "0")}\0 `, 148, 8);
    parts.push(head, content, new Uint8Array((512 - (size % 512)) % 512));
  };
  for (const { file, path } of files) {
    const bytes = encoder.encode(path);
    if (bytes.length > 100 || bytes.length !== path.length) {
      const tail = ` path=${path}\n`;
      const plain = encoder.encode(tail).length;
      let length = plain + 2;
      while (String(length).length + plain !== length) length = String(length).length + plain;
      const record = encoder.encode(`${length}${tail}`);
      add("pax", record.length, record, "x");
    }
    add(path, file.size, file, "0");
  }
  parts.push(new Uint8Array(1024));
  return new Blob(parts);
}
