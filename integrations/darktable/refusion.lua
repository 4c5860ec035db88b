--[[
Restore photos with refusion from the lighttable of darktable (4.2 or newer).

The module "export selected" gets the target storage "restore with refusion". Each selected photo
is exported as a TIFF of 16 bits to a temporary folder and restored by the program `refusion`. The
result is saved beside the photo as NAME-TASK.tif, imported, grouped with the photo, and tagged.

Installation: copy this file to the folder `lua` of darktable's configuration and add the line
`require "refusion"` to the file `luarc` there.
]]

local M = {}

-- Tasks of refusion and their names in the list.
M.TASKS = {
  { name = "dehaze", label = "remove haze" },
  { name = "deshadow", label = "remove shadows" },
  { name = "denoise", label = "remove noise" },
  { name = "blind", label = "remove noise, blur and JPEG artifacts" },
}

--- Quote one argument for the shell of a system: sh, or a batch file of Windows.
function M.quote(text, system)
  if system == "windows" then
    return '"' .. text:gsub("%%", "%%%%") .. '"' -- names of files have no " there
  end
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- The command line that restores `source` into `target` and writes its messages to `log`.
-- `strength` is in percent, 0 to 100.
function M.command_line(program, task, strength, source, target, log, system)
  local words = {
    M.quote(program, system),
    task,
    M.quote(string.format("--strength=%d%%", strength), system),
    "--quiet",
    "--overwrite never",
    "--output " .. M.quote(target, system),
    M.quote(source, system),
    "2> " .. M.quote(log, system),
  }
  return table.concat(words, " ")
end

--- The content of a batch file that runs a command line; file names are UTF-8.
function M.batch_file(command)
  return "@chcp 65001 > nul\r\n@" .. command .. "\r\n"
end

--- Path of the result of a photo: NAME-TASK.tif in its folder, with a number if that exists.
-- `exists` tells whether there is a file of that path.
function M.result_path(folder, name, task, system, exists)
  local separator = system == "windows" and "\\" or "/"
  local stem = folder .. separator .. name:gsub("%.[^.]*$", "") .. "-" .. task
  local path, number = stem .. ".tif", 2
  while exists(path) do
    path, number = stem .. "-" .. number .. ".tif", number + 1
  end
  return path
end

--- The last line of messages that is not empty, which says what is wrong; nil if there is none.
function M.last_line(text)
  local last
  for line in text:gmatch("[^\r\n]+") do
    if line:match("%S") then
      last = line
    end
  end
  return last
end

--- Why a photo was not restored. Messages of refusion say it; others come from the shell.
function M.reason(message, program)
  if message and message:match("^refusion") then
    return message
  end
  return string.format(
    "cannot run %s (%s); choose the program in the preferences, lua options",
    program, message or "no message"
  )
end

--- The sentence that is shown at the end.
function M.summary(restored, errors)
  local text = string.format("refusion: %d restored", restored)
  if #errors > 0 then
    text = text .. string.format(", %d failed: %s", #errors, errors[1])
  end
  return text
end

local has_darktable, dt = pcall(require, "darktable")
if not has_darktable then
  return M -- for tests of the functions above
end

local SYSTEM = dt.configuration.running_os
local SCRIPT = "refusion"

local function exists(path)
  local file = io.open(path, "rb")
  if file then
    file:close()
  end
  return file ~= nil
end

local function read_file(path)
  local file = io.open(path, "rb")
  local text = file and file:read(100000) or ""
  if file then
    file:close()
  end
  return text
end

--- Run a command line without blocking darktable; return whether it succeeded.
local function execute(command)
  if SYSTEM ~= "windows" then
    return dt.control.execute(command) == 0
  end
  -- On Windows, darktable cannot run a command line with more than one quoted argument.
  local path = os.tmpname() .. ".bat"
  local file = io.open(path, "wb")
  if not file then
    return false
  end
  file:write(M.batch_file(command))
  file:close()
  local code = dt.control.execute('"' .. path .. '"')
  os.remove(path)
  return code == 0
end

--- Restore an exported file of a photo. Return the path of the result, or nil and the reason.
local function restore(image, source, settings)
  local target = M.result_path(image.path, image.filename, settings.task, SYSTEM, exists)
  local log = os.tmpname()
  local command = M.command_line(
    settings.program, settings.task, settings.strength, source, target, log, SYSTEM
  )
  dt.print_log(command)
  local succeeded = execute(command)
  local message = M.last_line(read_file(log))
  os.remove(log)
  if succeeded and exists(target) then
    return target
  end
  return nil, M.reason(message, settings.program)
end

local function add_to_library(path, image, task)
  local result = dt.database.import(path)
  result:group_with(image)
  dt.tags.attach(dt.tags.create("refusion|" .. task), result)
end

--- The number that was used last, or the first value.
local function last(key, first)
  return tonumber(dt.preferences.read(SCRIPT, key, "string")) or first
end

local function remember(key, number)
  dt.preferences.write(SCRIPT, key, "string", tostring(number))
end

local labels = {}
for _, task in ipairs(M.TASKS) do
  table.insert(labels, task.label)
end

local task_list = dt.new_widget("combobox") {
  label = "task",
  tooltip = "what refusion removes",
  selected = last("task", 1),
  table.unpack(labels),
}
local strength_slider = dt.new_widget("slider") {
  label = "strength",
  tooltip = "strength of the restoration in percent; 0 is the photo",
  hard_min = 0,
  hard_max = 100,
  soft_min = 0,
  soft_max = 100,
  step = 1,
  digits = 0,
  value = last("strength", 100),
}

local function store(_, image, _, filename, _, _, _, extra)
  local path, reason
  if extra.settings then
    path, reason = restore(image, filename, extra.settings)
  else
    reason = "set the bit depth of TIFF to 16 bit"
  end
  os.remove(filename)
  if path then
    add_to_library(path, image, extra.settings.task)
    extra.restored = extra.restored + 1
  else
    table.insert(extra.errors, image.filename .. ": " .. reason)
    dt.print_error(SCRIPT .. ": " .. extra.errors[#extra.errors])
  end
end

-- Do not return the images: darktable 4.2 then frees its list twice and crashes.
local function initialize(_, format, _, _, extra)
  extra.restored, extra.errors = 0, {}
  if format.bpp ~= 16 then
    return
  end
  local program = dt.preferences.read(SCRIPT, "program", "file")
  extra.settings = {
    program = program ~= "" and program or "refusion",
    task = M.TASKS[task_list.selected].name,
    strength = math.floor(strength_slider.value + 0.5),
  }
  remember("task", task_list.selected)
  remember("strength", extra.settings.strength)
end

local function finalize(_, _, extra)
  dt.print(M.summary(extra.restored, extra.errors))
end

dt.preferences.register(
  SCRIPT, "program", "file", "refusion: program",
  "the file refusion (Windows: refusion.exe) of your installation; empty: found by its name", ""
)
dt.register_storage(
  SCRIPT, "restore with refusion", store, finalize,
  function(_, format) return format.plugin_name == "tiff" end,
  initialize,
  dt.new_widget("box") { orientation = "vertical", task_list, strength_slider }
)

--- The script manager calls this when the script is switched off.
function M.destroy()
  dt.destroy_storage(SCRIPT)
end

return M
